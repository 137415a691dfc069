#include <fcntl.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/perl/fork_watch.h"
#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Cleanup, RunsAfterTheResponseWithTheConnectionReleased) {
  Server server(R"(
    our @order;
    sub { my $env = shift; @main::order = ();
      push @{ $env->{'psgix.cleanup.handlers'} },
        sub { push @main::order, 'first', ref $_[0], $_[0] == $env ? 'same' : 'other'; push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { push @main::order, 'pushed' } },
        sub { die "cleanup broke\n" },
        sub { push @main::order, 'third' };
      [200, [], ['x']] })");
  const Played played = server.play();
  EXPECT_EQ(played.events, "start 200,write,finish,release");
  EXPECT_EQ(evaluate("join ',', @main::order"), "first,HASH,same,third,pushed");
  EXPECT_THAT(server.host.lines,
              ElementsAre("ERROR GET /here?a=b [id-1]: a cleanup handler died: cleanup broke"));
  EXPECT_FALSE(played.served.failed);
  EXPECT_FALSE(played.touched_after_end);
}

TEST(Cleanup, ConnectionStaysWhereNothingIsToBeDone) {
  Server server("sub { [200, [], ['x']] }");
  EXPECT_EQ(server.play().events, "start 200,write,finish");
}

TEST(Cleanup, RunsAlsoAfterADeath) {
  Server server(
      "sub { push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { $main::ran = 'yes' }; die 'x' }");
  EXPECT_TRUE(server.play().served.failed);
  EXPECT_EQ(evaluate("$main::ran"), "yes");
}

TEST(Cleanup, OddHandlersAreReported) {
  Server server("sub { $_[0]{'psgix.cleanup.handlers'} = 'text'; [200, [], []] }");
  server.play();
  EXPECT_THAT(server.host.text(),
              HasSubstr(": psgix.cleanup.handlers is 'text', must be an array reference"));
  Server other("sub { push @{ $_[0]{'psgix.cleanup.handlers'} }, 'not code'; [200, [], []] }");
  other.play();
  EXPECT_THAT(other.host.text(), HasSubstr("a cleanup handler died: "));
  Server none("sub { %{ $_[0] } = (); [200, [], []] }");
  EXPECT_TRUE(none.play().finished);
  EXPECT_EQ(none.host.text(), "");
}

TEST(Harakiri, IsReadAlsoWhenTheHandlersAreOdd) {
  Server server(
      "sub { $_[0]{'psgix.harakiri.commit'} = 1; $_[0]{'psgix.cleanup.handlers'} = 'text'; "
      "[200, [], []] }");
  EXPECT_EQ(server.play().served.next, runtime::Next::LeaveHarakiri);
}

TEST(Harakiri, IsReadAfterCleanup) {
  Server server("sub { $_[0]{'psgix.harakiri.commit'} = 1; [200, [], []] }");
  EXPECT_EQ(server.play().served.next, runtime::Next::LeaveHarakiri);
  ASSERT_EQ(server.load("sub { push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { "
                        "$_[0]{'psgix.harakiri.commit'} = 1 }; [200, [], []] }"),
            "");
  EXPECT_EQ(server.play().served.next, runtime::Next::LeaveHarakiri);
  ASSERT_EQ(server.load(
                "sub { $_[0]{'psgix.harakiri.commit'} = 1; push @{ $_[0]{'psgix.cleanup.handlers'} "
                "}, sub { $_[0]{'psgix.harakiri.commit'} = 0 }; [200, [], []] }"),
            "");
  EXPECT_EQ(server.play().served.next, runtime::Next::Continue);
}

TEST(Order, OfEverythingAroundAResponse) {
  Server server(R"(
    package Guard; sub new { bless [$_[1]] } sub DESTROY { push @main::order, $_[0][0] }
    package main;
    sub { my $env = shift; $env->{guard} = Guard->new('env');
          push @{ $env->{'psgix.cleanup.handlers'} }, sub { push @main::order, 'cleanup' };
          [200, [Guard->new('never') ? () : ()], [bless(['body'], 'Guard') ? 'x' : '']] })");
  evaluate("@main::order = ()");
  server.play();
  EXPECT_EQ(evaluate("join ',', grep { $_ ne 'never' && $_ ne 'body' } @main::order"),
            "cleanup,env");
}

TEST(Destructors, ThatDieOrExitWhileTheEnvIsFreed) {
  Server server(R"(
    use warnings; package Dies; sub DESTROY { die 'in destructor' }
    package Exits; sub DESTROY { exit 6 }
    package main; sub { my $e = shift; $e->{QUERY_STRING} eq 'die' ? ($e->{x} = bless {}, 'Dies') : ($e->{x} = bless {}, 'Exits'); [200, [], ['ok']] })");
  Script dies;
  dies.parameters = {{"REQUEST_METHOD", "GET"}, {"QUERY_STRING", "die"}};
  testing::internal::CaptureStderr();
  const Played first = server.play(dies);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("(in cleanup) in destructor"));
  EXPECT_EQ(first.body, "ok");
  EXPECT_EQ(first.served.next, runtime::Next::Continue);
  const Played second = server.play();
  EXPECT_EQ(second.body, "ok");
  EXPECT_TRUE(second.finished);
  EXPECT_EQ(second.served.next, runtime::Next::LeaveExit);
  EXPECT_THAT(server.host.text(), HasSubstr("a destructor called exit(6)"));
}

TEST(Child, RandomNumbersDiffer) {
  Server server("my $seeded = rand; sub { [200, [], [rand]] }");
  std::set<std::string> numbers;
  for (int child = 0; child < 4; ++child) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    application().before_fork();
    const pid_t pid = ::fork();
    if (pid == 0) {
      application().enter_child(runtime::ChildRole::Worker, server.host);
      const std::string number = server.play().body;
      ::_exit(::write(ends[1], number.data(), number.size()) > 0 ? 0 : 1);
    }
    ::close(ends[1]);
    char text[64] = {};
    EXPECT_GT(::read(ends[0], text, sizeof text - 1), 0);
    ::close(ends[0]);
    ::waitpid(pid, nullptr, 0);
    numbers.insert(text);
  }
  EXPECT_EQ(numbers.size(), 4U);
}

// Runs `body` in a forked child and gives what it wrote to standard output.
template <class Body>
std::string output_of_child(Body body) {
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  application().before_fork();
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(ends[1], 1);
    ::dup2(ends[1], 2);
    adopt_process();  // the server makes its processes by clone, which is no fork to watch
    body();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string all;
  char text[4096];
  for (ssize_t size = 0; (size = ::read(ends[0], text, sizeof text)) > 0;) {
    all.append(text, static_cast<std::size_t>(size));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  return all;
}

TEST(Child, OutputIsUnbufferedAndPidItsOwn) {
  Server server("sub { print $$; [200, [], []] }");
  const std::string output = output_of_child([&] {
    application().enter_child(runtime::ChildRole::Worker, server.host);
    server.play();
    const std::string pid = "/" + std::to_string(::getpid());
    (void)!::write(1, pid.data(), pid.size());
  });
  const std::size_t slash = output.find('/');
  ASSERT_NE(slash, std::string::npos);
  EXPECT_EQ(output.substr(0, slash), output.substr(slash + 1));
}

TEST(Child, NothingBufferedIsWrittenTwice) {
  Server server("sub { [200, [], []] }");
  const std::string file = server.scratch.path() + "/out";
  evaluate("open $main::out, '>', '" + file + "' or die; print $main::out 'once'");
  output_of_child([] { application().leave(); });
  evaluate("close $main::out");
  EXPECT_EQ(std::filesystem::file_size(file), 4U);
}

TEST(Leave, RunsEveryEndBlockAndNoDestruction) {
  const Scratch scratch;
  const std::string file = scratch.path() + "/buffered";
  evaluate("$main::file = '" + file + "'");
  // Loaded in the child, so that the END blocks stay there.
  const std::string output = output_of_child([&] {
    Server server(R"(
      package Global; sub DESTROY { print "destroyed;" }
      package main; our $object = bless {}, 'Global';
      END { print "phase ${^GLOBAL_PHASE};" } END { die "END died\n" } END { exit 3 } END { eval { die 1 }; print "first;" }
      sub { open $main::buffered, '>', $main::file; print $main::buffered 'flushed'; [200, [], []] })");
    application().enter_child(runtime::ChildRole::Worker, server.host);
    server.play();
    application().leave();
  });
  EXPECT_THAT(output, testing::StartsWith("first;END died\n"));
  EXPECT_THAT(output, HasSubstr("phase END;"));
  EXPECT_THAT(output, testing::Not(HasSubstr("destroyed")));
  EXPECT_EQ(std::filesystem::file_size(file), 7U);
}

TEST(Forks, AProcessOfTheApplicationNeverServes) {
  const struct {
    const char* child;
    const char* status;
  } cases[] = {
      {"exit 7", "7"},
      {"eval 'END { $? = 6 }'; exit 7", "6"},
      {"eval { exit 7 }", "7"},
      {"die 'in child'", "255"},
      {"return [200, [], ['from the child']]", "255"},
      {"return sub { $_[0]->([200, [], []]) } ", "255"},
      {"my $x = bless {}, 'ExitInDestroy'; sub ExitInDestroy::DESTROY { exit 8 } undef $x", "8"},
  };

  for (const auto& test : cases) {
    Server server(std::string("sub { my $pid = fork; if (!$pid) { ") + test.child +
                  " } waitpid $pid, 0; [200, [], [$? >> 8]] }");
    application().enter_child(runtime::ChildRole::Worker, server.host);
    EXPECT_EQ(server.play().body, test.status) << test.child;
  }
  Server late(R"(
    { package ForkInDestroy; sub DESTROY { my $pid = fork; exit 10 if !$pid; waitpid $pid, 0; $main::later = $? >> 8 } }
    sub { push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { my $pid = fork; exit 9 if !$pid; waitpid $pid, 0; $main::late = $? >> 8 };
          $_[0]{x} = bless {}, 'ForkInDestroy'; [200, [], []] })");
  late.play();
  EXPECT_EQ(evaluate("\"$main::late $main::later\""), "9 10");
  Server at_load(
      "my $pid = fork; exit 11 if !$pid; waitpid $pid, 0; my $s = $? >> 8; sub { [200, [], [$s]] "
      "}");
  EXPECT_EQ(at_load.play().body, "11");
  Server streaming(
      "sub { sub { my $w = $_[0]->([200, []]); my $pid = fork; exit 12 if !$pid; waitpid $pid, 0; "
      "$w->write($? >> 8) } }");
  EXPECT_EQ(streaming.play().body, "12");
}

TEST(Lint, FindsNothingToComplainOf) {
  Server server(R"(
    use Plack::Builder;
    builder { enable 'Lint'; enable 'ContentLength'; sub { my $env = shift;
      $env->{PATH_INFO} eq '/stream' ? sub { my $w = $_[0]->([200, ['Content-Type' => 'text/plain']]); $w->write('s'); $w->close }
        : [200, ['Content-Type' => 'text/plain'], ['body']] } })");
  EXPECT_EQ(server.play().body, "body") << server.host.text();
  Script script;
  script.parameters[2].second = "/stream";
  EXPECT_EQ(server.play(script).body, "s") << server.host.text();
}

TEST(Signals, HandlersOfTheApplicationAreItsOwn) {
  Server server(
      "$SIG{USR1} = sub { $main::caught++ }; sub { kill USR1 => $$; [200, [], [$main::caught]] }");
  EXPECT_EQ(server.play().body, "1");
}

TEST(Leaks, ManyMixedRequestsLeaveNothingBehind) {
  const Scratch files;
  const std::string small = files.write("small", "0123456789");
  evaluate("$ENV{PLACK_SMALL_FILE} = '" + small + "'");
  Server server(R"(
    package Text; use overload '""' => sub { ${ $_[0] } }, fallback => 1;
    package Lines; sub getline { shift @{ $_[0] } } sub close { }
    package main;
    my @kinds = (
      sub { [200, ['A' => 'b'], ['hello', ' ', 'world']] },
      sub { my $in = $_[0]{'psgi.input'}; my $all = do { local $/; <$in> }; [200, [], [$all]] },
      sub { my $in = $_[0]{'psgi.input'}; open my $dup, '<&', $in; binmode $in, ':utf8'; read $in, my $b, 10; my $l = <$dup>; [200, [], [$b]] },
      sub { sub { my $w = $_[0]->([200, []]); $w->write('x'); $w->close } },
      sub { my $kept; sub { $kept = $_[0]; $kept->([200, [], ['x']]) } },
      sub { die "oops\n" },
      sub { die bless \(my $t = 'x'), 'Text' },
      sub { [200, [], [bless \(my $t = 'x'), 'Text']] },
      sub { [200, [], bless ['a', 'b'], 'Lines'] },
      sub { [200, [], ["wide \x{100}"]] },
      sub { my $t = "\xe9"; utf8::upgrade($t); [200, [X => $t], [$t]] },
      sub { my $e = $_[0]; push @{ $e->{'psgix.cleanup.handlers'} }, sub { die "x\n" }; [200, [], []] },
      sub { open my $f, '<', $ENV{PLACK_SMALL_FILE} or die; read $f, my $x, 5; [200, [], $f] },
      sub { [200, ['Bad Name' => 1], []] },
      sub { $_[0]{'psgix.logger'}->({ level => 'info', message => 'm' }); [200, [], []] },
      sub { local %ENV = (%ENV, %{{ map { ("X_$_" => 'y' x 100) } 1 .. 20 }}); [200, [], [$ENV{X_1}]] },
      sub { 'nonsense' },
      sub { sub { my $w = $_[0]->([200, []]); $w->write('x'); die "late\n" } },
    );
    my $n = 0; sub { $kinds[$n++ % @kinds]->(@_) })");
  const auto round = [&](int requests) {
    for (int index = 0; index < requests; ++index) {
      Script script;
      script.mode = index % 2 == 0 ? Script::Body::Streamed : Script::Body::Memory;
      script.body = "line\nline\n";
      server.play(script);
      server.host.lines.clear();
    }
  };
  round(18 * 20);
  const std::int64_t values = live_values();
  const std::size_t memory = ::mallinfo2().uordblks;
  round(18 * 1100);
  EXPECT_EQ(live_values(), values);
  EXPECT_LT(::mallinfo2().uordblks, memory + 100'000);  // one lost allocation of 6 bytes a request
}

}  // namespace
}  // namespace bladepsgi::perl
