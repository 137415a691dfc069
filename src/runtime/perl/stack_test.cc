#include "runtime/perl/stack.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/perl/testing.h"

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

// Of the handler: what it saw, and how often.
PerlInterpreter* walked = nullptr;
std::array<char, 4096> text;
volatile std::size_t text_size = 0;
volatile int walks = 0;
volatile int unavailable = 0;
volatile int with_sub = 0;
const char* volatile wanted = nullptr;  // the first text with that stays

timer_t timer{};
std::chrono::microseconds pause{};

void timer_after(std::chrono::microseconds time) {
  const timespec when{.tv_sec = time.count() / 1'000'000,
                      .tv_nsec = time.count() % 1'000'000 * 1000};
  const itimerspec once{.it_interval = {}, .it_value = when};
  ::timer_settime(timer, 0, &once, nullptr);
}

void walk(int /*signal*/) {
  std::array<char, 4096> seen;
  const std::size_t size = write_stack(walked, seen);
  const std::string_view view(seen.data(), size);
  walks = walks + 1;
  // Only from the end of this one on: the program shall get on, whatever a walk costs.
  timer_after(pause + std::chrono::microseconds(walks % 97));
  if (view == kNoStack) {
    unavailable = unavailable + 1;
  }
  if (view.find("Busy::") != std::string_view::npos) {
    with_sub = with_sub + 1;
  }
  if (wanted != nullptr && view.find(wanted) == std::string_view::npos) {
    return;
  }
  wanted = nullptr;
  std::copy_n(seen.data(), size, text.data());
  text_size = size;
}

std::string seen_text() {
  return {text.data(), text_size};
}

// Walks again and again while it lives.
class Walks {
 public:
  explicit Walks(std::chrono::microseconds interval) {
    walked = application().interpreter();
    walks = 0;
    unavailable = 0;
    with_sub = 0;
    text_size = 0;

    struct sigaction action {};

    action.sa_handler = walk;
    ::sigaction(SIGRTMAX, &action, nullptr);
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGRTMAX;
    EXPECT_EQ(::timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    pause = interval;
    timer_after(interval);
  }

  Walks(const Walks&) = delete;
  Walks& operator=(const Walks&) = delete;

  ~Walks() {
    ::timer_delete(timer);
    ::signal(SIGRTMAX, SIG_IGN);
    wanted = nullptr;
  }
};

// Everything that makes Perl move its stacks and free what a walk might look at.
constexpr const char* kBusy = R"(
package Busy::Tied; sub TIESCALAR { bless {} } sub FETCH { Busy::deep(3) } sub STORE { }
package Busy::Text; use overload '""' => sub { Busy::deep(2); 'text' }, '<=>' => sub { Busy::deep(1) };
package Busy::Guard; sub DESTROY { Busy::deep(4) }
package Busy;
our $sink;
sub deep { my $n = shift; my @l = map { "$n$_" } 1 .. 3; return $n <= 0 ? scalar(@l) : deep($n - 1) }
sub very_deep { my $n = shift; return $n <= 0 ? 0 : 1 + very_deep($n - 1) }
sub work {
  my $round = shift;
  tie my $tied, 'Busy::Tied';
  $sink = $tied;
  $sink = '' . bless [], 'Busy::Text';
  my @sorted = sort { deep(1); $a <=> $b } map { $_ * 7 % 11 } 1 .. 12;
  { my $guard = bless [], 'Busy::Guard'; eval { my $other = bless [], 'Busy::Guard'; die $guard } }
  $sink = eval "package Busy::Evaled$round; sub made { Busy::deep(2) } made() . '$round'";
  { no strict 'refs'; no warnings;
    *{"Busy::dynamic"} = sub { Busy::deep(2) }; dynamic();
    undef &{"Busy::Evaled${round}::made"}; delete $Busy::{"Evaled${round}::"}; delete $Busy::{dynamic} }
  'abcabc' =~ /(?:a(?{ deep(1) })bc)+/;
  local @Busy::list = (1) x (10 + $round % 50);
  my $closure = do { my $x = $round; sub { $x + deep(1) } };
  $sink = $closure->();
  $sink = join ',', map { sprintf '%s-%d', $_, deep(1) } grep { $_ % 2 } 1 .. 9;
  very_deep(300) if $round % 10 == 0;
  my %hash = map { $_ => [$_] } 1 .. 100;
  delete @hash{ grep { $_ % 3 } keys %hash };
  return;
}
package main;
our $round = 0;
sub { Busy::work(++$main::round) for 1 .. 20; [200, [], ['x']] }
)";

// main::look($size): the stack as it is there.
void define_look() {
  PerlInterpreter* my_perl = application().interpreter();
  newXS(
      "main::look",
      [](pTHX_ CV* cv) {
        dXSARGS;
        PERL_UNUSED_VAR(cv);
        const auto size = items > 0 ? static_cast<std::size_t>(SvIV(ST(0))) : text.size();
        text_size = write_stack(aTHX_ std::span(text).first(size));
        XSRETURN_EMPTY;
      },
      __FILE__);
}

TEST(Stack, NamesSubsInnermostFirst) {
  define_look();
  Server server(
      "package My::Model;\n"
      "sub find { main::look(); 1 }\n"  // 2
      "package main;\n"
      "sub { my $f = sub { eval { My::Model::find() }; 1 };\n"  // 4
      "  $f->();\n"
      "  [200, [], ['x']] }");
  server.play();
  EXPECT_THAT(seen_text(), MatchesRegex("My::Model::find at [^\n]*app.psgi line 2, in a call\n"
                                        "main::__ANON__ at [^\n]*app.psgi line 4\n"
                                        "main::__ANON__ at [^\n]*app.psgi line 5"));
}

TEST(Stack, IsCutToWhatTheBufferHolds) {
  Server server(kBusy);
  std::array<char, 40> small{};
  PerlInterpreter* my_perl = application().interpreter();
  EXPECT_LE(write_stack(aTHX_ std::span(small).first(10)), 10U);
  EXPECT_LE(write_stack(aTHX_ std::span(small).first(0)), 0U);
}

TEST(Stack, SaysHowManyFramesItDoesNotShow) {
  define_look();
  Server server(
      "sub deep { $_[0] ? deep($_[0] - 1) : main::look(@main::room) }"
      " sub { @main::room = $_[0]{QUERY_STRING}; deep(100); [200, [], []] }");
  Script script;
  script.parameters = {{"REQUEST_METHOD", "GET"}, {"QUERY_STRING", "4096"}};
  server.play(script);
  const std::string all = seen_text();
  EXPECT_THAT(all, HasSubstr("\n… and 62 more"));
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 40);
  // What has no room is left out line by line.
  script.parameters[1].second = "500";
  server.play(script);
  EXPECT_THAT(seen_text(), MatchesRegex("deep at [^\n]* line 1, in a call\n"
                                        "(deep at [^\n]* line 1\n)+"
                                        "… and 9[0-9] more"));
}

// A pointer that leads nowhere is not followed.
TEST(Stack, BadPointersAreSaidToBeUnavailable) {
  Server server("sub { [200, [], []] }");
  PerlInterpreter* my_perl = application().interpreter();
  // A page that cannot be read, at an end of one that can.
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  auto* memory = static_cast<char*>(
      ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(::mprotect(memory + page, page, PROT_NONE), 0);
  std::array<char, 16> bytes{};
  EXPECT_TRUE(read_own_memory(memory + page - 16, bytes.data(), 16));
  EXPECT_FALSE(read_own_memory(memory + page - 15, bytes.data(), 16));
  EXPECT_FALSE(read_own_memory(nullptr, bytes.data(), 1));

  const auto stack = [&] {
    std::array<char, 4096> into{};
    return std::string(into.data(), write_stack(aTHX_ into));
  };
  PERL_SI* const info = PL_curstackinfo;
  PERL_CONTEXT* const contexts = info->si_cxstack;
  const I32 index = info->si_cxix;
  COP* const cop = PL_curcop;
  for (char* bad : {static_cast<char*>(nullptr), reinterpret_cast<char*>(8), memory + page,
                    memory + page - 4, reinterpret_cast<char*>(~std::uintptr_t{0} - 64)}) {
    PL_curcop = reinterpret_cast<COP*>(bad);
    EXPECT_EQ(stack(), kNoStack);
    PL_curstackinfo = reinterpret_cast<PERL_SI*>(bad);
    EXPECT_EQ(stack(), kNoStack);
    PL_curstackinfo = info;
    info->si_cxstack = reinterpret_cast<PERL_CONTEXT*>(bad);
    info->si_cxix = 5;
    EXPECT_EQ(stack(), kNoStack);
    info->si_cxix = 2'000'000'000;
    EXPECT_EQ(stack(), kNoStack);
    info->si_cxstack = contexts;
    info->si_cxix = index;
    PL_curcop = cop;
  }
  // A stack whose predecessor it is itself.
  PERL_SI* const previous = info->si_prev;
  info->si_prev = info;
  EXPECT_FALSE(stack().empty());
  info->si_prev = previous;
  // A context that looks like a call of what is no sub; one of bytes of no meaning at all.
  PERL_CONTEXT context;
  for (const int byte : {0x00, 0x09, 0x0a, 0x41, 0xff}) {
    std::memset(&context, byte, sizeof context);
    info->si_cxstack = &context;
    info->si_cxix = 0;
    for (unsigned type = 0; type < 256; ++type) {
      context.cx_u.cx_subst.sbu_type = static_cast<U8>(type);
      EXPECT_FALSE(stack().empty());
    }
  }
  info->si_cxstack = contexts;
  info->si_cxix = index;
  ::munmap(memory, 2 * page);
}

TEST(Stack, IsWalkedAtRandomMoments) {
  Server server(kBusy);
  const int enough = ::getenv("BLADEPSGI_LONG") != nullptr ? 200'000 : 10'000;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(90);
  {
    const Walks walking(std::chrono::microseconds(137));
    while (walks < enough && std::chrono::steady_clock::now() < deadline) {
      ASSERT_EQ(server.play().status, 200);
    }
  }
  RecordProperty("walks", walks);
  EXPECT_GE(walks, enough);
  // Perl's own state is never far from order: nearly all of them say something.
  EXPECT_GT(with_sub, walks / 2);
  EXPECT_LT(unavailable, walks / 20);
}

TEST(Stack, OfWhatIsBlocked) {
  Server server(R"(
    use Fcntl ':flock';
    pipe(our $read, our $write);
    open our $first, '>', "$0.lock-$$"; open our $second, '>', "$0.lock-$$";
    unlink "$0.lock-$$";
    flock $first, LOCK_EX;
    my %wait = (
      sleep => sub { sleep 20 }, sselect => sub { select undef, undef, undef, 20 },
      sysread => sub { sysread $read, my $byte, 1 }, flock => sub { flock $second, LOCK_EX },
      wait => sub { my $kid = fork; if (!$kid) { exec 'sleep', 1 } waitpid $kid, 0; kill KILL => $kid; waitpid $kid, 0 });
    sub Some::where { $wait{ $_[0] }->() }
    sub { Some::where($_[0]{QUERY_STRING}); [200, [], ['x']] })");
  for (const char* op : {"sleep", "sselect", "sysread", "flock", "waitpid"}) {
    const std::string in = std::string(", in ") + op + '\n';
    Script script;
    script.parameters = {{"REQUEST_METHOD", "GET"},
                         {"QUERY_STRING", std::string(op) == "waitpid" ? "wait" : op}};
    // As often as it takes: a signal may come before it blocks.
    const Walks walking(std::chrono::milliseconds(30));
    wanted = in.c_str();
    for (int i = 0; i < 50 && wanted != nullptr; ++i) {
      EXPECT_EQ(server.play(script).status, 200);
    }
    EXPECT_THAT(seen_text(), HasSubstr(in)) << op;
    EXPECT_THAT(seen_text(), HasSubstr("\nSome::where at ")) << op;
  }
}

}  // namespace
}  // namespace bladepsgi::perl
