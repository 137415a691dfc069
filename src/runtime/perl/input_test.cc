#include <cerrno>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/perl/testing.h"

namespace bladepsgi::perl {
namespace {

using testing::HasSubstr;

using Mode = Script::Body;

constexpr Mode kModes[] = {Mode::Memory, Mode::Buffered, Mode::Streamed};

Script upload(std::string body, Mode mode = Mode::Streamed, std::size_t piece = 1000) {
  Script script;
  script.parameters = {{"REQUEST_METHOD", "POST"},
                       {"REQUEST_URI", "/up"},
                       {"CONTENT_LENGTH", std::to_string(body.size())},
                       {"CONTENT_TYPE", "application/x-www-form-urlencoded"},
                       {"QUERY_STRING", ""},
                       {"SCRIPT_NAME", ""},
                       {"PATH_INFO", "/up"},
                       {"SERVER_NAME", "localhost"},
                       {"SERVER_PORT", "80"},
                       {"SERVER_PROTOCOL", "HTTP/1.1"}};
  script.mode = mode;
  script.body = std::move(body);
  script.piece = piece;
  return script;
}

// Runs `code` with $in and $env and gives what it returns, in every mode and with every size of
// piece; it must not matter.
std::string ask(const std::string& code, const std::string& body) {
  Server server("sub { my $env = shift; my $in = $env->{'psgi.input'}; my $answer = do { " + code +
                " }; [200, [], [$answer]] }");
  std::string first;
  for (const Mode mode : kModes) {
    for (const std::size_t piece : {1UL, 3UL, 65536UL}) {
      const Played played = server.play(upload(body, mode, piece));
      EXPECT_EQ(played.status, 200) << server.host.text();
      EXPECT_FALSE(played.touched_after_end);
      if (mode == Mode::Memory && piece == 1) {
        first = played.body;
      } else {
        EXPECT_EQ(played.body, first)
            << code << " mode " << static_cast<int>(mode) << " piece " << piece;
      }
    }
  }
  return first;
}

const char* const kText = "line 1\nline 2\n\n\nline 3\nrest";

TEST(Input, ReadsLikeAFile) {
  EXPECT_EQ(ask("my $r = ''; my $n; my @n; while ($n = read $in, my $b, 7) { push @n, $n; $r .= "
                "\"[$b]\" } \"$r@n/$n\"",
                kText),
            "[line 1\n][line 2\n][\n\nline ][3\nrest]7 7 7 6/0");
  EXPECT_EQ(ask("my @n; my $b = ''; while (my $n = sysread $in, $b, 10, length $b) { push @n, $n } "
                "\"@n:$b\"",
                kText),
            std::string("10 10 7:") + kText);
  EXPECT_EQ(ask("my $b = 'abc'; my $n = read $in, $b, 2, 5; $b =~ s/\\0/0/g; my $m = read $in, $b, "
                "1, -1; \"$n$m$b\"",
                "xyz"),
            "21abc00xz");
  EXPECT_EQ(ask("my $n = $in->read(my $b, 6); my $m = $in->read($b, 3, 6); $in->sysread($b, 1, 9); "
                "\"$n$m$b\"",
                kText),
            "63line 1\nlin");
  EXPECT_EQ(ask("my $b; my $n = read $in, $b, 0; my $m = eval { read $in, $b, -1; 1 } ? 'no' : $@; "
                "$n . $m",
                kText)
                .substr(0, 16),
            "0Negative length");
}

TEST(Input, ReadsLinesInEveryMode) {
  EXPECT_EQ(ask("join '|', <$in>", kText), "line 1\n|line 2\n|\n|\n|line 3\n|rest");
  EXPECT_EQ(ask("my $r = ''; while (<$in>) { $r .= $. . $_ } $r", "a\nb\n"), "1a\n2b\n");
  EXPECT_EQ(
      ask("local $/; my $all = <$in>; my $end = <$in>; $all . (defined $end ? 'more' : 'end')",
          kText),
      std::string(kText) + "end");
  EXPECT_EQ(ask("local $/ = ''; join '|', <$in>", kText), "line 1\nline 2\n\n|line 3\nrest");
  EXPECT_EQ(ask("local $/ = \\10; join '|', <$in>", kText), "line 1\nlin|e 2\n\n\nline| 3\nrest");
  EXPECT_EQ(ask("local $/ = 'ne'; join '|', <$in>", kText), "line| 1\nline| 2\n\n\nline| 3\nrest");
  EXPECT_EQ(ask("$in->getline . join('|', $in->getlines)", kText),
            "line 1\nline 2\n|\n|\n|line 3\n|rest");
  EXPECT_EQ(
      ask("chomp(my $line = <$in>); my $c = getc $in; my $d = $in->getc; $line . $c . $d . <$in>",
          kText),
      "line 1line 2\n");
  EXPECT_EQ(ask("my $r = eof($in) ? 'E' : '.'; local $/; <$in>; $r . (eof($in) ? 'E' : '.') . "
                "($in->eof ? 'E' : '.')",
                kText),
            ".EE");
  EXPECT_EQ(ask("eof($in) ? 'empty' : 'full'", ""), "empty");
  EXPECT_EQ(ask("$in->ungetc(ord 'X'); $in->ungetc(ord 'Y'); <$in>", "a\n"), "YXa\n");
}

TEST(Input, LongLinesAndBodies) {
  const std::string line(200000, 'x');
  EXPECT_EQ(ask("my @l = <$in>; join ',', map { length } @l", line + "\n" + line), "200001,200000");
  EXPECT_EQ(ask("my $b = ''; 1 while read $in, $b, 100000, length $b; length($b) . ($b =~ tr/x//)",
                line + line),
            "400000400000");
}

TEST(Input, LargeReadsGoStraightThrough) {
  Server server(
      "sub { my $in = $_[0]{'psgi.input'}; read $in, my $b, 1000000; [200, [], [length $b]] }");
  const Played played = server.play(upload(std::string(1000000, 'z'), Mode::Streamed, 200000));
  EXPECT_EQ(played.body, "1000000");
  EXPECT_GE(played.largest_read, 1000000U);
}

TEST(Input, LayersApply) {
  EXPECT_EQ(
      ask("binmode $in, ':utf8'; my $l = <$in>; length($l) . sprintf '%vd', $l", "\xc3\xa9\n"),
      "2233.10");
  EXPECT_EQ(ask("binmode $in, ':utf8'; my $n = read $in, my $b, 2; $n . sprintf '%vd', $b",
                "\xc3\xa9\xe2\x98\x83z"),
            "2233.9731");
  EXPECT_EQ(
      ask("binmode $in, ':encoding(UTF-8)'; my $l = <$in>; length($l) . ord $l", "\xe2\x98\x83\n"),
      "29731");
  EXPECT_EQ(ask("binmode $in, ':crlf'; join '|', <$in>", "a\r\nb\r\n"), "a\n|b\n");
  EXPECT_EQ(ask("binmode $in, ':utf8'; binmode $in; length scalar <$in>", "\xc3\xa9\n"), "3");
  EXPECT_EQ(ask("$in->binmode(':utf8') ; length scalar <$in>", "\xc3\xa9\n"), "2");
}

TEST(Input, OneReaderForAllFaces) {
  EXPECT_EQ(ask("require Digest::MD5; my $first = <$in>; my $md5 = "
                "Digest::MD5->new->addfile($in)->hexdigest; "
                "$md5 eq Digest::MD5::md5_hex(\"line 2\\n\\n\\nline 3\\nrest\") ? \"same$first\" : "
                "'different'",
                kText),
            "sameline 1\n");
  EXPECT_EQ(ask("require Digest::MD5; Digest::MD5->new->addfile($in)->hexdigest eq "
                "Digest::MD5::md5_hex('x' x 300000)"
                " && !defined scalar <$in>",
                std::string(300000, 'x')),
            "1");
  EXPECT_EQ(ask("open my $dup, '<&', $in or die $!; my $a = <$in>; my $b = <$dup>; $a . $b . <$in>",
                "1\n2\n3\n"),
            "1\n2\n3\n");
  EXPECT_EQ(
      ask("open my $dup, '<&=', $in or die $!; my $l = <$dup>; close $dup; $l . <$in>", "1\n2\n"),
      "1\n2\n");
  EXPECT_EQ(ask("local *STDIN = $in; my $l = <STDIN>; read STDIN, my $b, 1; $l . $b", "1\n2\n"),
            "1\n2");
}

TEST(Input, LookingForTheEndTakesNothingFromOtherFaces) {
  EXPECT_EQ(ask("my $e = eof $in; $in->ungetc(ord getc $in); open my $dup, '<&', $in or die; $e = "
                "eof $dup; "
                "require Digest::MD5; Digest::MD5->new->addfile($in)->hexdigest eq "
                "Digest::MD5::md5_hex('abc') ? 1 : 0",
                "abc"),
            "1");
}

TEST(Input, ShowsNoDescriptor) {
  EXPECT_EQ(
      ask("join ',', fileno($in), $in->fileno, $in->opened ? 1 : 0, defined(-s $in) ? 1 : 0", "x"),
      "-1,-1,1,0");
  EXPECT_EQ(ask("ref($in) . ($in->isa('IO::Handle') ? 1 : 0) . ($in->can('seek') ? 1 : 0) . "
                "(Scalar::Util::openhandle($in) ? 1 : 0)"
                " if require Scalar::Util",
                "x"),
            "BPSGI::Input111");
  EXPECT_EQ(ask("my @r = map { $_ ? 1 : 0 } (print {$in} 'x'), (printf {$in} 'x'), (syswrite $in, "
                "'x'); \"@r\"",
                "x"),
            "0 0 0");
}

TEST(Input, SeeksWhenBuffered) {
  Server server(R"(
    sub { my $in = $_[0]{'psgi.input'}; my @r; read $in, my $b, 5; push @r, tell $in;
          push @r, seek($in, 0, 0) ? 1 : 0, scalar <$in>, tell $in;
          push @r, $in->seek(-2, 2) ? 1 : 0, <$in>;
          push @r, seek($in, -3, 1) ? 1 : 0, getc $in, $in->tell;
          push @r, seek($in, -1, 0) ? 1 : 0, seek($in, 100000, 0) ? 1 : 0, seek($in, 0, 2) ? 1 : 0, eof($in) ? 1 : 0;
          [200, ['X' => $_[0]{'psgix.input.buffered'} ? 1 : 0], [join ',', @r]] })");
  for (const Mode mode : {Mode::Memory, Mode::Buffered}) {
    const Played played = server.play(upload("abc\ndefgh", mode, 4));
    EXPECT_EQ(played.body, "5,1,abc\n,4,1,gh,1,f,7,0,0,1,1");
    EXPECT_EQ(played.headers.at(0).second, "1");
  }
  // Across windows.
  Server far(
      "sub { my $in = $_[0]{'psgi.input'}; 1 while read $in, my $b, 70000; seek $in, 1, 0; getc "
      "$in; seek $in, 199999, 0;"
      " [200, [], [getc($in), tell $in]] }");
  EXPECT_EQ(far.play(upload(std::string(199999, 'x') + "y", Mode::Buffered, 70000)).body,
            "y200000");
  // Back to where a large read passed the window by: the first fills it, the second ends beyond it.
  Server past(
      "sub { my $in = $_[0]{'psgi.input'}; read $in, my $b, 10; read $in, $b, 135526; seek $in, "
      "-5, 1;"
      " [200, [], [getc($in), tell $in]] }");
  std::string body;
  for (int index = 0; index < 350000; ++index) {
    body += static_cast<char>('a' + index / 7 % 26);
  }
  EXPECT_EQ(past.play(upload(body, Mode::Buffered, 70000)).body,
            body[135531] + std::string("135532"));
}

TEST(Input, DoesNotSeekWhenStreamed) {
  Server server(R"(
    sub { my $in = $_[0]{'psgi.input'}; read $in, my $b, 2; $! = 0; my $ok = seek $in, 0, 0;
          [200, [], [$ok ? 1 : 0, $! + 0, '.', tell $in, $_[0]{'psgix.input.buffered'} ? 1 : 0, scalar <$in>]] })");
  EXPECT_EQ(server.play(upload("abcdef")).body, "0" + std::to_string(ESPIPE) + ".20cdef");
}

TEST(Input, ABrokenBodyIsAnErrorNotAnEnd) {
  struct Case {
    const char* code;
    const char* answer;
  };

  for (const Case& test : {
           Case{"my @r; for (1 .. 3) { $! = 0; my $n = read $in, my $b, 4; push @r, defined $n ? "
                "\"$n$b\" : 'undef' . ($!+0) } \"@r\"",
                "4abcd 2ef undef103"},
           Case{"my @r; for (1 .. 3) { $! = 0; my $n = sysread $in, my $b, 70000; push @r, defined "
                "$n ? \"$n$b\" : 'undef' . ($!+0) } \"@r\"",
                "6abcdef undef103 undef103"},
           Case{"my @r; for (1 .. 2) { $! = 0; my $l = <$in>; push @r, defined $l ? $l : 'undef' . "
                "($!+0) } \"@r\"",
                "abcdef undef103"},
           Case{"my @r; for (1 .. 2) { $! = 0; my $l = $in->getline; push @r, defined $l ? $l : "
                "'undef' . ($!+0) } \"@r\"",
                "abcdef undef103"},
           Case{"local $/; <$in>; ($in->error ? 'error' : 'fine')", "error"},
           Case{"require Digest::MD5; eval { Digest::MD5->new->addfile($in) } ? 'digest' : $@",
                "Reading from filehandle failed"},
       }) {
    Server server(std::string("sub { my $in = $_[0]{'psgi.input'}; my $answer = do { ") +
                  test.code + " }; [200, [], [$answer]] }");
    Script script = upload("abcdef", Mode::Streamed, 5);
    script.error = ECONNABORTED;
    EXPECT_THAT(server.play(script).body, testing::StartsWith(test.answer)) << test.code;
  }
}

TEST(Input, IsAtItsEndForEverAfterItsRequest) {
  Server server(R"(
    our @kept;
    sub { my $in = $_[0]{'psgi.input'}; read $in, my $first, 1; open my $dup, '<&', $in;
          my $answer = join ',', map { my $n = read $_, my $b, 10; my $l = <$_>; (defined $n ? $n : 'undef') . (defined $l ? 1 : 0) . (eof $_ ? 1 : 0) } @kept;
          push @kept, $in, $dup;
          push @{ $_[0]{'psgix.cleanup.handlers'} }, sub { $main::after = read $in, my $b, 10 };
          [200, [], [$answer]] })");
  for (const Mode mode : kModes) {
    const Played first = server.play(upload("abcdef", mode));
    EXPECT_EQ(evaluate("defined $main::after ? $main::after : 'undef'"), "0");
    const Played second = server.play(upload("secret", mode));
    EXPECT_THAT(second.body, testing::StartsWith("001,001"));
    EXPECT_FALSE(first.touched_after_end || second.touched_after_end);
  }
}

TEST(Input, ClosedMeansClosed) {
  EXPECT_EQ(ask("close($in) ? 1 : 0", "abc"), "1");
  EXPECT_EQ(ask("no warnings; close $in; defined(read $in, my $b, 1) ? 'read' : 'closed'", "abc"),
            "closed");
}

TEST(Input, PlackRequestAndCgiReadForms) {
  const std::string form = "name=J%C3%B6rg&n=1&n=2";
  EXPECT_EQ(
      ask("require Plack::Request; my $r = Plack::Request->new($env); join ',', $r->param('name'), "
          "$r->parameters->get_all('n'), length $r->content",
          form),
      "J\xc3\xb6rg,1,2,22");
  EXPECT_EQ(ask("require CGI::PSGI; my $q = CGI::PSGI->new($env); join ',', $q->param('name'), "
                "scalar(my @n = $q->multi_param('n'))",
                form),
            "J\xc3\xb6rg,2");
  EXPECT_EQ(ask("require CGI; require CGI::Emulate::PSGI; CGI->_reset_globals if "
                "CGI->can('_reset_globals'); "
                "CGI::initialize_globals(); my $r = CGI::Emulate::PSGI->handler(sub { "
                "CGI::initialize_globals(); my $q = CGI->new; "
                "print \"Content-Type: text/plain\\r\\n\\r\\n\", $q->param('name') })->($env); my "
                "$b = $r->[2]; ref $b eq 'ARRAY' ? join '', @$b : do { local $/; <$b> }",
                form),
            "J\xc3\xb6rg");
}

TEST(Input, MultipartUploads) {
  const std::string body =
      "--X\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\nContent-Type: "
      "text/plain\r\n\r\n" +
      std::string(100000, 'u') + "\r\n--X--\r\n";
  Server server(
      "require Plack::Request; sub { my $r = Plack::Request->new($_[0]); [200, [], "
      "[$r->upload('f')->size]] }");
  for (const Mode mode : kModes) {
    Script script = upload(body, mode);
    script.parameters[3].second = "multipart/form-data; boundary=X";
    EXPECT_EQ(server.play(script).body, "100000") << server.host.text();
  }
}

}  // namespace
}  // namespace bladepsgi::perl
