#include <signal.h>

#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

using testing::HasSubstr;

// Loads a loader whose code starts with `body`; $context is there. The reason when it fails.
class Objects : public testing::Test {
 protected:
  std::string load(const std::string& body) {
    static int number = 0;
    const std::string name = "Objects" + std::to_string(++number);
    server.scratch.write(
        name + ".pm",
        "package " + name +
            "; use strict; use BPSGI::Context; sub { our $context = $main::context = shift; " +
            body + "; return ({}, sub { [200, [], [$main::run->()]] }) }");
    runtime::LoadOptions options;
    options.application_path = server.host.path = "the/app.psgi";
    options.loader = server.host.loader_name = name;
    options.include_directories = {server.scratch.path()};
    auto loaded = application().load(server.host, options);
    return loaded ? "" : loaded.error().message;
  }

  // What a piece of Perl gives or dies with.
  static std::string run(const std::string& code) {
    return evaluate("my $r = eval { " + code + " }; $@ || $r");
  }

  Server server;
};

TEST_F(Objects, ContextTellsWhereItIs) {
  ASSERT_EQ(load("1"), "");
  EXPECT_EQ(run("ref $main::context"), "BPSGI::Context");
  EXPECT_EQ(run("$main::context->psgi_application_path"), "the/app.psgi");
  EXPECT_EQ(run("$main::context->psgi_application_loader"), server.host.loader_name);
  EXPECT_EQ(run("$main::context->fastcgi_listen_sockfd"), "7");
  EXPECT_EQ(run("$main::context->is_worker ? 'yes' : 'no'"), "no");
  EXPECT_THAT(run("$main::context->set_worker_status('x')"),
              HasSubstr("this is not a worker process at "));
  server.host.current_role = runtime::ChildRole::Worker;
  EXPECT_EQ(run("$main::context->is_worker ? 'yes' : 'no'"), "yes");
  EXPECT_EQ(run("$main::context->set_worker_status('Busy') ? 'true' : 'false'"), "true");
  EXPECT_EQ(server.host.status, 'B');
  for (const char* none : {"''", "undef", "\"\\x{263a}\""}) {
    EXPECT_THAT(run(std::string("$main::context->set_worker_status(") + none + ")"),
                HasSubstr("has no octet at "))
        << none;
  }
  server.host.loader_name.clear();
  EXPECT_EQ(run("defined $main::context->psgi_application_loader ? 'defined' : 'undef'"), "undef");
}

TEST_F(Objects, ClassesAreThereWithoutFiles) {
  ASSERT_EQ(load("1"), "");
  EXPECT_EQ(run("require BPSGI; require BPSGI::Semaphore; require BPSGI::AtomicInt64; "
                "BPSGI::Context->VERSION(2); 'ok'"),
            "ok");
}

TEST_F(Objects, Semaphores) {
  ASSERT_EQ(load("$main::s = $context->new_semaphore('door', 2); $main::z = "
                 "$context->new_semaphore('gate', 0, { on_death => 'return' });"
                 "$main::k = $context->new_semaphore('lock', 2147483647, { on_death => 'keep' })"),
            "");
  const auto& made = server.host.semaphores;
  EXPECT_EQ(made.at(0).on_death, runtime::OnDeath::Default);
  EXPECT_EQ(made.at(1).on_death, runtime::OnDeath::Return);
  EXPECT_EQ(made.at(2).on_death, runtime::OnDeath::Keep);
  EXPECT_EQ(run("ref $main::s"), "BPSGI::Semaphore");
  EXPECT_EQ(run("join ',', map { $_ ? 1 : 0 } $main::s->acquire, $main::s->tryacquire, "
                "$main::s->tryacquire, $main::s->release"),
            "1,1,0,1");
  EXPECT_EQ(made.at(0).value, 1);
  EXPECT_THAT(run("$main::k->release"),
              HasSubstr("cannot release semaphore 'lock': its value is 2147483647 at "));
}

TEST_F(Objects, AcquireRunsSignalHandlersThatMayDie) {
  ASSERT_EQ(load("$main::s = $context->new_semaphore('door', 0)"), "");
  server.host.on_acquire = [&] {
    if (server.host.acquires == 3) {
      ::raise(SIGALRM);
    }
  };
  EXPECT_EQ(run("local $SIG{ALRM} = sub { die \"alarm\\n\" }; $main::s->acquire; 1"), "alarm\n");
  EXPECT_EQ(server.host.acquires, 3);
  server.host.acquires = 0;
  EXPECT_EQ(run("local $SIG{ALRM} = sub { $main::s->release }; $main::s->acquire ? 'got it' : ''"),
            "got it");
  EXPECT_EQ(server.host.acquires, 4);
}

TEST_F(Objects, AtomicsAreFull64Bit) {
  ASSERT_EQ(load("$main::a = $context->new_atomic_int64('count', '-9223372036854775808')"), "");
  EXPECT_EQ(server.host.atomics.at(0).value, std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(run("$main::a->load"), "-9223372036854775808");
  EXPECT_EQ(run("$main::a->fetch_add(-1)"), "-9223372036854775808");
  EXPECT_EQ(run("$main::a->load"), "9223372036854775807");
  EXPECT_EQ(run("join ',', $main::a->incr, $main::a->store(4294967297), "
                "$main::a->fetch_add(4294967296), $main::a->load"),
            "1,1,4294967297,8589934593");
  EXPECT_EQ(
      run("$main::a->store(1e3); $main::a->store('12'); $main::a->fetch_add('+3'); $main::a->load"),
      "15");
  EXPECT_EQ(run("$main::a->store(9223372036854775807); $main::a->load"), "9223372036854775807");
  EXPECT_EQ(run("require Math::BigInt; $main::a->store(Math::BigInt->new('-5000000000')); "
                "$main::a->load"),
            "-5000000000");
  for (const char* bad :
       {"undef", "'abc'", "1.5", "''", "'1x'", "[]", "9**9**9", "-sin(9**9**9)", "*STDOUT"}) {
    EXPECT_THAT(run(std::string("$main::a->store(") + bad + ")"),
                HasSubstr("cannot store to atomic 'count': the value is "))
        << bad;
    EXPECT_THAT(run(std::string("$main::a->fetch_add(") + bad + ")"),
                HasSubstr("not a whole number at "))
        << bad;
  }
  for (const char* large : {"9223372036854775808", "'9223372036854775808'", "-9223372036854780000",
                            "'-9223372036854775809'", "1e19", "~0"}) {
    EXPECT_THAT(run(std::string("$main::a->store(") + large + ")"),
                HasSubstr("does not fit 64 bits signed at "))
        << large;
  }
}

TEST_F(Objects, MistakesNameObjectAndCause) {
  ASSERT_EQ(load("1"), "");

  const struct {
    const char* code;
    const char* message;
  } cases[] = {
      {"new_semaphore('x', -1)",
       "cannot create semaphore 'x': its initial value -1 is not between 0 and 2147483647 at "},
      {"new_semaphore('x', 2147483648)",
       "cannot create semaphore 'x': its initial value 2147483648 is not between"},
      {"new_semaphore('x', 'much')",
       "cannot create semaphore 'x': its initial value is 'much', not a whole number"},
      {"new_semaphore(\"a\\nb\", 1)", "cannot create semaphore 'a\\nb': the name has a newline"},
      {"new_semaphore(\"a\\0b\", 1)", "the name has a NUL"},
      {"new_semaphore('', 1)", "the name is empty"},
      {"new_semaphore(undef, 1)", "cannot create semaphore: its name is undef"},
      {"new_semaphore([], 1)", "cannot create semaphore: its name is an ARRAY reference"},
      {"new_semaphore('x' x 256, 1)", "the name is longer than 255 bytes"},
      {"new_semaphore('x', 1, 2)",
       "cannot create semaphore 'x': the options are '2', not a hash reference"},
      {"new_semaphore('x', 1, { death => 1 })",
       "cannot create semaphore 'x': unknown option 'death'"},
      {"new_semaphore('x', 1, { on_death => 'maybe' })",
       "cannot create semaphore 'x': on_death is 'maybe', must be 'return' or 'keep'"},
      {"new_semaphore('x')",
       "Usage: BPSGI::Context::new_semaphore(context, name, initial, [options])"},
      {"new_atomic_int64('x', '99999999999999999999')",
       "cannot create atomic 'x': its initial value '99999999999999999999' does not fit 64 bits "
       "signed"},
      {"new_atomic_int64(\"\\n\", 1)", "the name has a newline"},
      {"request_auxiliary_process('x', 'y')",
       "cannot create auxiliary process 'x': its code is 'y', not a code reference"},
      {"request_auxiliary_process(undef, sub {})",
       "cannot create auxiliary process: its name is undef"},
  };

  for (const auto& test : cases) {
    EXPECT_THAT(run(std::string("$main::context->") + test.code), HasSubstr(test.message))
        << test.code;
  }
  EXPECT_EQ(run("$main::context->new_semaphore('twice', 1); "
                "$main::context->new_atomic_int64('twice', 1); 'ok'"),
            "ok");
  EXPECT_THAT(run("$main::context->new_semaphore('twice', 1)"),
              HasSubstr("cannot create semaphore 'twice': the name is taken at "));
  server.host.current_role = runtime::ChildRole::Worker;
  EXPECT_THAT(run("$main::context->request_auxiliary_process('late', sub {})"),
              HasSubstr("cannot create auxiliary process 'late': not while loading"));
}

// One list of questions for the server's classes and for the stand-in that loaders are tested with.
TEST_F(Objects, AnswerAsTheStandInDoes) {
  ASSERT_EQ(load("1"), "");
  EXPECT_EQ(evaluate(R"(
    my @cases = do ')" BLADEPSGI_PERL_TESTS R"(/cases.pl';
    my $wrong = @cases ? '' : "no cases: $@$!";
    for my $case (@cases) {
        my ($code, $expected) = @$case;
        my $got = eval "use utf8; $code";
        $got = $@ if !defined $got;
        $wrong .= "$code: $got\n" unless ref $expected ? $got =~ $expected : $got eq $expected;
    }
    $wrong;
  )"),
            "");
}

TEST_F(Objects, CannotBeForged) {
  ASSERT_EQ(load("$main::s = $context->new_semaphore('door', 1); $main::a = "
                 "$context->new_atomic_int64('n', 1)"),
            "");
  EXPECT_THAT(run("BPSGI::Semaphore::acquire(bless \\(my $x = 5), 'BPSGI::Semaphore')"),
              HasSubstr("not a BPSGI::Semaphore object"));
  EXPECT_THAT(run("BPSGI::Semaphore::acquire($main::a)"),
              HasSubstr("not a BPSGI::Semaphore object"));
  EXPECT_THAT(run("BPSGI::AtomicInt64::load($main::s)"),
              HasSubstr("not a BPSGI::AtomicInt64 object"));
  EXPECT_THAT(run("BPSGI::Context->is_worker"),
              HasSubstr("not a BPSGI::Context object: 'BPSGI::Context'"));
  EXPECT_THAT(run("${ $main::s } = 'other'"), HasSubstr("read-only"));
}

TEST_F(Objects, NamesAreTheSameHoweverPerlStoresThem) {
  ASSERT_EQ(load("my $n = my $m = \"caf\\xe9\"; utf8::upgrade($m); $context->new_semaphore($n, 1); "
                 "$context->new_atomic_int64($m, 1);"
                 "$context->new_atomic_int64(\"\\x{2603}\", 1)"),
            "");
  EXPECT_EQ(server.host.semaphores.at(0).name, "caf\xe9");
  EXPECT_EQ(server.host.atomics.at(0).name, "caf\xe9");
  EXPECT_EQ(server.host.atomics.at(1).name, "\xe2\x98\x83");
}

TEST_F(Objects, AuxiliaryProcessesRunTheirCode) {
  ASSERT_EQ(load("$context->request_auxiliary_process('returns', sub { $main::got = ref shift }) "
                 "or die 'false';"
                 "$context->request_auxiliary_process('dies', sub { die \"reason\\n\" });"
                 "$context->request_auxiliary_process('exits', sub { eval { exit 4 } });"
                 "$context->request_auxiliary_process('zero', sub { exit 0 })"),
            "");
  EXPECT_THAT(server.host.auxiliaries, testing::ElementsAre("returns", "dies", "exits", "zero"));
  application().enter_child(runtime::ChildRole::Auxiliary, server.host);
  EXPECT_NE(application().run_auxiliary(0), 0);
  EXPECT_EQ(evaluate("$main::got"), "BPSGI::Context");
  EXPECT_NE(application().run_auxiliary(1), 0);
  EXPECT_EQ(application().run_auxiliary(2), 4);
  EXPECT_NE(application().run_auxiliary(3), 0);
  EXPECT_NE(application().run_auxiliary(9), 0);
  EXPECT_THAT(server.host.lines,
              testing::ElementsAre(HasSubstr("ERROR auxiliary process 'returns' returned"),
                                   "ERROR auxiliary process 'dies' died: reason",
                                   "ERROR auxiliary process 'exits' called exit(4)",
                                   "ERROR auxiliary process 'zero' called exit(0)",
                                   "ERROR there is no auxiliary process 9"));
}

}  // namespace
}  // namespace bladepsgi::perl
