#include <signal.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;

// A request whose application is `code`, and what the log must say.
struct Mistake {
  const char* name;
  const char* code;
  const char* message;
};

TEST(Response, SendsStatusHeadersAndBodyInOrder) {
  Server server(
      "sub { [201, ['X-A' => 1, 'X-A' => 2, 'Content-Type' => 'text/plain'], ['a', 'bc', '', "
      "undef, 7]] }");
  const Played played = server.play();
  EXPECT_EQ(played.status, 201);
  EXPECT_THAT(played.headers,
              ElementsAre(Pair("X-A", "1"), Pair("X-A", "2"), Pair("Content-Type", "text/plain")));
  EXPECT_EQ(played.body, "abc7");
  EXPECT_EQ(played.events, "start 201,write,write,write,write,finish");
  EXPECT_FALSE(played.served.failed);
  EXPECT_EQ(played.served.next, runtime::Next::Continue);
  EXPECT_EQ(server.host.text(), "");
}

TEST(Response, TakesNumbersOverloadedAndTiedParts) {
  Server server(R"(
    package Text; use overload '""' => sub { ${ $_[0] } }, fallback => 1;
    package Tied; sub TIEARRAY { bless [@_[1 .. $#_]] } sub FETCH { $_[0][$_[1]] } sub FETCHSIZE { scalar @{ $_[0] } }
    package main;
    sub {
      tie my @body, 'Tied', 'one ', bless(\(my $x = 'two '), 'Text'), 3;
      tie my @headers, 'Tied', 'Location', bless(\(my $y = '/there'), 'Text');
      ['200', \@headers, \@body];
    })");
  const Played played = server.play();
  EXPECT_EQ(played.status, 200);
  EXPECT_THAT(played.headers, ElementsAre(Pair("Location", "/there")));
  EXPECT_EQ(played.body, "one two 3");
  EXPECT_EQ(server.host.text(), "");
}

TEST(Response, DowngradesWhatIsBytesAndLeavesTheOriginalAlone) {
  Server server(R"(
    my $text = "caf\xe9"; utf8::upgrade($text); my @body = ($text, 'plain'); my @headers = ('X-Name' => $text);
    sub { push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { die 'downgraded' if grep { !utf8::is_utf8($_) } $body[0], $headers[1] };
          [200, \@headers, \@body] })");
  const Played played = server.play();
  EXPECT_EQ(played.body, "caf\xe9plain");
  EXPECT_THAT(played.headers, ElementsAre(Pair("X-Name", "caf\xe9")));
  EXPECT_EQ(server.host.text(), "");
}

TEST(Response, ChunksMayChangeWhatWasReadBefore) {
  // Turning an element into a string frees the strings before it: their bytes must have been kept.
  Server server(R"(
    package Evil; use overload '""' => sub { my $list = $_[0][0]; $_ = 'x' x 5000 for @$list[0, 1]; @$list = (); 'evil' };
    package main;
    sub { my @body = ('a' x 2000, 'b' x 2000); push @body, bless([\@body], 'Evil'); [200, [], \@body] })");
  const Played played = server.play();
  EXPECT_EQ(played.status, 200);
  EXPECT_EQ(played.body, std::string(2000, 'a') + std::string(2000, 'b') + "evil");
}

TEST(Response, NothingIsIteratedWhenNoBodyIsWanted) {
  Server server(R"(
    package Body; sub getline { die "iterated" } sub close { $main::closed++ }
    package main; sub { [200, [], bless {}, 'Body'] })");
  const Played played = server.play({.wants_body = false});
  EXPECT_EQ(played.events, "start 200,finish");
  EXPECT_EQ(evaluate("$main::closed"), "1");
}

TEST(Response, ReadsObjectsByGetlineWithLargeRecords) {
  Server server(R"(
    package Body; sub getline { my $s = shift; $main::separator = ref $/ ? ${ $/ } : 'text'; shift @$s } sub close { $main::shut++ }
    package main; sub { [200, [], bless ['one', '', 'two'], 'Body'] })");
  const Played played = server.play();
  EXPECT_EQ(played.body, "onetwo");
  EXPECT_EQ(played.events, "start 200,write,flush,write,flush,write,flush,finish");
  EXPECT_EQ(evaluate("$main::separator . $main::shut . $/"), "655361\n");
}

TEST(Response, SendsRealFilesFromTheirPosition) {
  Server server;
  server.scratch.write("file", "0123456789");
  const std::string file = server.scratch.path() + "/file";
  for (const char* open :
       {"open my $fh, '<', $file or die; $fh", "use IO::File; IO::File->new($file, 'r')",
        "use FileHandle; FileHandle->new($file)"}) {
    const std::string code = std::string("my $file = '") + file + "'; sub { my $f = do { " + open +
                             " }; my $first = <$f> if 0; read $f, $first, 3; [200, [], $f] }";
    ASSERT_EQ(server.load(code), "");
    const Played played = server.play();
    EXPECT_EQ(played.body, "3456789") << open;
    EXPECT_EQ(played.events, "start 200,file 3 7,finish") << open;
  }
}

TEST(Response, ClosesAFileItSent) {
  Server server;
  server.scratch.write("file", "0123456789");
  ASSERT_EQ(server.load("sub { open $main::kept, '<', '" + server.scratch.path() +
                        "/file' or die; [200, [], $main::kept] }"),
            "");
  EXPECT_EQ(server.play().body, "0123456789");
  EXPECT_EQ(evaluate("defined fileno($main::kept) ? 'open' : 'closed'"), "closed");
}

TEST(Response, OtherHandlesAreReadByGetline) {
  Server server;
  server.scratch.write("file", "l1\r\nl2\xc3\xa9\n");
  const std::string file = server.scratch.path() + "/file";

  const struct {
    const char* code;
    const char* body;
  } cases[] = {
      {"open my $f, '<', \\'in memory' or die; $f", "in memory"},
      {"open my $f, '<:utf8', $file or die; $f", "l1\r\nl2\xe9\n"},
      {"open my $f, '<:crlf', $file or die; $f", "l1\nl2\xc3\xa9\n"},
      {"open my $f, '<:encoding(UTF-8)', $file or die; $f", "l1\r\nl2\xe9\n"},
      {"open my $f, '-|', 'printf piped' or die; $f", "piped"},
      {"{ package Own; require IO::File; our @ISA = 'IO::File'; sub getline { my $l = "
       "$_[0]->SUPER::getline; defined $l ? uc $l : undef } } "
       "Own->new($file)",
       "L1\r\nL2\xc3\xa9\n"},
      {"{ package Tie; sub TIEHANDLE { bless [1, 2] } sub READLINE { shift @{ $_[0] } } sub CLOSE "
       "{ } } "
       "open my $f, '<', $file; tie *$f, 'Tie'; $f",
       "12"},
      {"open my $f, '<', '/proc/self/comm' or die; $main::comm = 1; $f", nullptr},
  };

  for (const auto& test : cases) {
    ASSERT_EQ(server.load(std::string("my $file = '") + file + "'; sub { my $f = do { " +
                          test.code + " }; [200, [], $f] }"),
              "");
    const Played played = server.play();
    EXPECT_EQ(played.status, 200) << test.code << server.host.text();
    EXPECT_THAT(played.events, Not(HasSubstr("file"))) << test.code;
    if (test.body != nullptr) {
      EXPECT_EQ(played.body, test.body) << test.code;
    } else {
      EXPECT_NE(played.body, "") << test.code;
    }
  }
}

TEST(Response, AFileThatCannotBeSentIsRead) {
  Server server;
  server.scratch.write("file", "0123456789");
  ASSERT_EQ(server.load("sub { open my $f, '<', '" + server.scratch.path() +
                        "/file' or die; [200, [], $f] }"),
            "");
  const Played read = server.play({.send_file_error = EINVAL});
  EXPECT_EQ(read.body, "0123456789");
  EXPECT_EQ(read.events, "start 200,file 0 10,write,flush,finish");
  const Played gone = server.play({.send_file_error = EPIPE});
  EXPECT_EQ(gone.events, "start 200,file 0 10,finish");
  EXPECT_FALSE(gone.served.failed);
  const Played broken = server.play({.send_file_error = EIO});
  EXPECT_EQ(broken.status, 500);
  EXPECT_THAT(server.host.text(), HasSubstr("the body's file cannot be read: Input/output error"));
}

TEST(Response, StreamsEachWriteAtOnce) {
  Server server(R"(
    sub { my $env = shift; sub { my $w = $_[0]->([200, ['A', 'b']]); $w->write("x"); $w->write(undef); $w->write("yz"); $w->close } })");
  const Played played = server.play();
  EXPECT_EQ(played.body, "xyz");
  EXPECT_EQ(played.events, "start 200,write,flush,write,flush,finish");
}

TEST(Response, DelayedResponsesMayBeComplete) {
  Server server("sub { sub { $_[0]->([202, [], ['later']]); $main::after = 'yes' } }");
  const Played played = server.play();
  EXPECT_EQ(played.status, 202);
  EXPECT_EQ(played.body, "later");
  EXPECT_EQ(evaluate("$main::after"), "yes");
  EXPECT_EQ(server.host.text(), "");
}

TEST(Response, AStreamThatIsNotClosedIsComplete) {
  Server server("sub { sub { my $w = $_[0]->([200, []]); $w->write('part') } }");
  const Played played = server.play();
  EXPECT_TRUE(played.finished);
  EXPECT_EQ(played.body, "part");
  EXPECT_FALSE(played.served.failed);
}

TEST(Response, WritesToAClientThatHasGoneAreFalse) {
  Server server(R"(
    sub { sub { my $w = $_[0]->([200, []]); @main::results = map { $w->write($_) ? 1 : 0 } 1 .. 4; $w->close } })");
  const Played played = server.play({.writes_until_gone = 2});
  EXPECT_EQ(evaluate("join '', @main::results"), "1100");
  EXPECT_FALSE(played.served.failed);
  EXPECT_EQ(played.events, "start 200,write,flush,write,flush,write,finish");
}

TEST(Response, IterationStopsWhenTheClientHasGone) {
  Server server(R"(
    package Body; sub getline { $main::lines++; 'x' } sub close { $main::done = 1 }
    package main; sub { $main::lines = 0; [200, [], bless {}, 'Body'] })");
  server.play({.writes_until_gone = 3});
  EXPECT_EQ(evaluate("$main::lines . $main::done"), "41");
}

TEST(Response, ResponderAndWriterSayWhenTheyAreMisused) {
  Server server(R"(
    our ($kept_responder, $kept_writer, @errors);
    sub {
      @main::errors = ();
      for my $old (grep { defined } $kept_responder) { eval { $old->([200, [], []]) }; push @main::errors, $@ }
      for my $old (grep { defined } $kept_writer) { eval { $old->write('x') }; push @main::errors, $@ }
      sub {
        $kept_responder = $_[0];
        eval { $_[0]->('text') }; push @main::errors, $@;
        $kept_writer = $_[0]->([200, []]);
        eval { $_[0]->([200, []]) }; push @main::errors, $@;
        $kept_writer->close; $kept_writer->close;
        eval { $kept_writer->write('x') }; push @main::errors, $@;
      }
    })");
  server.play();
  const std::string first = evaluate("join '', @main::errors");
  EXPECT_THAT(first,
              HasSubstr("the responder was called with 'text', needs an array reference at "));
  EXPECT_THAT(first, HasSubstr("the responder was called twice at "));
  EXPECT_THAT(first, HasSubstr("cannot write: the writer was closed at "));
  const Played second = server.play();
  EXPECT_TRUE(second.finished);
  const std::string again = evaluate("join '', @main::errors[0, 1]");
  EXPECT_THAT(again, HasSubstr("the responder was called after its request had ended at "));
  EXPECT_THAT(again, HasSubstr("cannot write: the request of this writer has ended at "));
  EXPECT_FALSE(second.touched_after_end);
}

class WrongResponse : public testing::TestWithParam<Mistake> {};

TEST_P(WrongResponse, IsA500WithTheReasonInTheLog) {
  Server server(GetParam().code);
  const Played played = server.play();
  EXPECT_EQ(played.status, 500) << GetParam().name;
  EXPECT_THAT(played.headers,
              ElementsAre(Pair("Content-Type", testing::_), Pair("Content-Length", testing::_)));
  EXPECT_TRUE(played.finished);
  EXPECT_FALSE(played.aborted);
  EXPECT_TRUE(played.served.failed);
  EXPECT_EQ(played.served.next, runtime::Next::Continue);
  EXPECT_THAT(server.host.text(), HasSubstr(GetParam().message));
  EXPECT_THAT(server.host.text(), HasSubstr("ERROR GET /here?a=b [id-1]: "));
  EXPECT_THAT(server.host.text(), HasSubstr("app.psgi line "));
  // The worker lives on.
  ASSERT_EQ(server.load("sub { [200, [], ['fine']] }"), "");
  EXPECT_EQ(server.play().body, "fine");
}

const Mistake kMistakes[] = {
    {"Wide", "sub { [200, [], ['ok', \"sn\\x{2603}w\"]] }",
     "chunk 2 of the body has the wide character U+2603 at position 3; encode it, e.g. with "
     "Encode::encode"},
    {"WideHeader", "sub { [200, ['X' => \"\\x{263a}\"], []] }",
     "the value of header X has the wide character U+263A"},
    {"Newline", "sub { [200, ['X-Y' => \"a\\nSet-Cookie: b\"], []] }",
     "the value of header X-Y has a CR, LF or NUL: 'a\\n"},
    {"Return", "sub { [200, ['X-Y' => \"a\\r\"], []] }", "has a CR, LF or NUL"},
    {"Nul", "sub { [200, ['X-Y' => \"a\\0b\"], []] }", "has a CR, LF or NUL"},
    {"NameNewline", "sub { [200, [\"X\\nY\" => 1], []] }", "'X\\nY' is not a header name"},
    {"NameSpace", "sub { [200, ['X Y' => 1], []] }", "'X Y' is not a header name"},
    {"NameColon", "sub { [200, ['X:' => 1], []] }", "'X:' is not a header name"},
    {"NameEmpty", "sub { [200, ['' => 1], []] }", "'' is not a header name"},
    {"NameUndef", "sub { [200, [undef, 1], []] }", "undef is not a header name"},
    {"Odd", "sub { [200, ['A'], []] }",
     "the header list has 1 elements; names and values come in pairs"},
    {"HeaderHash", "sub { [200, { A => 1 }, []] }",
     "the headers are a HASH reference, must be an array reference"},
    {"HeaderValueReference", "sub { [200, [A => [1]], []] }",
     "the value of header A is an ARRAY reference"},
    {"StatusText", "sub { ['200 OK', [], []] }",
     "the status is '200 OK', must be a whole number from 100 to 999"},
    {"StatusUndef", "sub { [undef, [], []] }", "the status is undef"},
    {"StatusLow", "sub { [99, [], []] }", "the status is '99'"},
    {"StatusHigh", "sub { [1000, [], []] }", "the status is '1000'"},
    {"StatusFraction", "sub { [200.5, [], []] }", "the status is '200.5'"},
    {"Undef", "sub { undef }",
     "the application returned undef, must be an array reference or a code reference"},
    {"Empty", "sub { () }", "the application returned undef"},
    {"String", "sub { 'hello' }", "the application returned 'hello'"},
    {"Hash", "sub { {} }", "the application returned a HASH reference"},
    {"Object", "sub { bless {}, 'Foo' }", "the application returned an object of class Foo"},
    {"Finalize", "{ package Res; sub finalize {} } sub { bless {}, 'Res' }",
     "(is a call of finalize missing?)"},
    {"TwoElements", "sub { [200, []] }", "it has 2 elements, must have status, headers and body"},
    {"NoElements", "sub { [] }", "it has 0 elements"},
    {"BodyString", "sub { [200, [], 'text'] }",
     "the body is 'text', must be an array reference, a handle or an object with getline"},
    {"BodyUndef", "sub { [200, [], undef] }", "the body is undef"},
    {"BodyHash", "sub { [200, [], {}] }", "the body is a HASH reference"},
    {"BodyObject", "sub { [200, [], bless {}, 'Foo'] }", "the body is an object of class Foo"},
    {"BodyCode", "sub { [200, [], sub {}] }", "the body is a CODE reference"},
    {"ChunkReference", "sub { [200, [], ['a', {}]] }",
     "chunk 2 of the body is a HASH reference, not a string"},
    {"Dies", "sub { die 'broken' }", "the application died: broken at "},
    {"GetlineDies",
     "{ package B; sub getline { die 'first' } sub close {} } sub { [200, [], bless {}, 'B'] }",
     "the application died: first at "},
    {"NeverResponds", "sub { sub { 1 } }",
     "the application returned code that never called its responder"},
    {"DelayedDies", "sub { sub { die 'late' } }", "the application died: late at "},
    {"DelayedDiesBeforeWriting", "sub { sub { $_[0]->([200, []]); die 'late' } }",
     "the application died: late at "},
    {"DelayedWrong", "sub { sub {\n $_[0]->([0, [], []]) } }", "app.psgi line 2"},
    {"Goto", "sub { goto &undefined }", "Goto undefined subroutine"},
};

INSTANTIATE_TEST_SUITE_P(All, WrongResponse, testing::ValuesIn(kMistakes), [](const auto& mistake) {
  return std::string(mistake.param.name);
});

TEST(BrokenResponse, AHeaderNamedStatusIsIgnoredWithAWarning) {
  Server server("sub { [204, [STATUS => 200, A => undef], []] }");
  const Played played = server.play();
  EXPECT_EQ(played.status, 204);
  EXPECT_THAT(played.headers, ElementsAre(Pair("A", "")));
  EXPECT_THAT(
      server.host.lines,
      ElementsAre(HasSubstr("WARNING GET /here?a=b [id-1]: the application set a Status header"),
                  HasSubstr("WARNING GET /here?a=b [id-1]: the value of header A is undef")));
}

TEST(BrokenResponse, NeverLooksCompleteOnceSomethingWasSent) {
  for (const char* code : {
           "{ package B; sub getline { $_[0][0]++ ? die 'second' : 'first' } sub close {} } sub { "
           "[200, [], bless [], 'B'] }",
           "sub { sub { my $w = $_[0]->([200, []]); $w->write('first'); die 'second' } }",
           "{ package C; sub getline { $_[0][0]++ ? \"\\x{100}\" : 'first' } sub close {} } sub { "
           "[200, [], bless [], 'C'] }",
           "sub { sub { my $w = $_[0]->([200, []]); $w->write('first'); $w->write(\"\\x{100}\") } "
           "}",
           "sub { sub { my $w = $_[0]->([200, []]); $w->write('first'); exit 3 } }",
           "{ package D; sub getline { $_[0][0]++ ? eval { exit 3 } : 'first' } sub close {} } sub "
           "{ [200, [], bless [], 'D'] }",
           "sub { my $r = shift; sub { my $responder = shift; eval { $responder->([200, [], bless "
           "[], 'B']) }; } }",
       }) {
    Server server(code);
    const Played played = server.play();
    EXPECT_TRUE(played.aborted) << code;
    EXPECT_FALSE(played.finished) << code;
    EXPECT_EQ(played.body, "first") << code;
    EXPECT_TRUE(played.served.failed) << code;
    EXPECT_EQ(server.host.lines.size(), 1U) << server.host.text();
  }
}

TEST(BrokenResponse, ADeathAfterTheResponseIsOnlyLogged) {
  Server server("sub { sub { $_[0]->([200, [], ['done']]); die 'afterwards' } }");
  const Played played = server.play();
  EXPECT_TRUE(played.finished);
  EXPECT_EQ(played.body, "done");
  EXPECT_THAT(
      server.host.text(),
      HasSubstr("GET /here?a=b [id-1]: the application died after its response: afterwards"));
}

TEST(BrokenResponse, ExceptionObjectsOfEveryKind) {
  const struct {
    const char* code;
    const char* message;
  } cases[] = {
      {"{ package E1; use overload bool => sub { 0 }, '\"\"' => sub { 'text of E1' } } sub { die "
       "bless {}, 'E1' }",
       "the application died: text of E1"},
      {"{ package E2; use overload bool => sub { die 'in bool' }, '\"\"' => sub { die 'in text' } "
       "} sub { die bless {}, 'E2' }",
       "the application died: an object of class E2 whose conversion to a string died"},
      {"sub { die bless {}, 'E3' }", "the application died: an object of class E3"},
      {"sub { die [1] }", "the application died: a reference to ARRAY"},
      {"{ package E4; use overload '\"\"' => sub { eval { 1 }; 'kept' } } sub { die bless {}, 'E4' "
       "}",
       "the application died: kept"},
      {"sub { local $@ = 'x'; die \"\\n\" }", "the application died: (an empty message)"},
      {"{ package E5; sub new { bless {} } sub DESTROY { eval { 1 } } } sub { my $guard = E5->new; "
       "die \"through an eval\\n\" }",
       "the application died: through an eval"},
  };

  for (const auto& test : cases) {
    Server server(test.code);
    EXPECT_EQ(server.play().status, 500) << test.code;
    EXPECT_THAT(server.host.text(), HasSubstr(test.message));
  }
}

TEST(BrokenResponse, ExitIsNoticedEverywhere) {
  const struct {
    const char* code;
    int status;
  } cases[] = {
      {"sub { exit 3 }", 500},
      {"sub { eval { exit 3 }; [200, [], ['no']] }", 500},
      {"sub { eval { eval { my @x = sort { exit 3 } 2, 1 } }; [200, [], ['no']] }", 500},
      {"{ package X1; use overload '\"\"' => sub { exit 3 } } sub { [200, [], [bless {}, 'X1']] }",
       500},
      {"{ package X2; sub getline { exit 3 } } sub { [200, [], bless {}, 'X2'] }", 500},
      {"{ package X3; sub DESTROY { exit 3 } } sub { my $x = bless {}, 'X3'; undef $x; [200, [], "
       "['no']] }",
       500},
      {"{ package X4; sub DESTROY { exit 3 } } sub { $_[0]{x} = bless {}, 'X4'; [200, [], ['yes']] "
       "}",
       200},
      {"{ package X5; sub DESTROY { exit 3 } } sub { [200, [X => 1], [bless({}, 'X5') ? 'yes' : "
       "'']] }",
       500},
      {"sub { push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { eval { exit 3 } }; [200, [], "
       "['yes']] }",
       200},
      {"sub { sub { my $r = shift; eval { $r->([200, [], ['yes']]) }; exit 3 } }", 200},
      {"sub { require POSIX; local $SIG{ALRM} = sub { exit 3 }; kill ALRM => $$; 1 while 1 }", 500},
  };

  for (const auto& test : cases) {
    Server server(test.code);
    const Played played = server.play();
    EXPECT_EQ(played.status, test.status) << test.code << server.host.text();
    EXPECT_TRUE(played.finished) << test.code;
    EXPECT_EQ(played.served.next, runtime::Next::LeaveExit) << test.code;
    EXPECT_THAT(server.host.text(), HasSubstr("exit(3)")) << test.code;
    EXPECT_EQ(played.served.failed, test.status == 500) << test.code;
    // Perl's stacks are whole: another request works as ever.
    ASSERT_EQ(
        server.load("sub { my @x = map { eval { die $_ } ; $@ } 1 .. 3; [200, [], [scalar @x]] }"),
        "");
    EXPECT_EQ(server.play().body, "3") << test.code;
  }
}

}  // namespace
}  // namespace bladepsgi::perl
