package BladePSGI::Test::Refusals;

# What this machine will not do on demand: a library before the C library's makes a system call fail as long as a file of that name is
# in the working directory of the server.
#
#   my ($library, $why) = refusing_library();
#   plan skip_all => $why unless $library;
#   my $server = BladePSGI::Test->start(env => { LD_PRELOAD => $library });
#   refuse($server, accept => Errno::EMFILE());
#   …
#   allow($server, 'accept');
#
# accept: accept4. fork: the making of processes. signalfd: what our own processes begin with. sendmsg, recvmsg: of messages between processes, which may have descriptors with them.
# A third argument names the only role for which it fails: refuse($server, sendmsg => Errno::EMSGSIZE(), 'lobby').

use strict;
use warnings;

use Exporter 'import';
use File::Temp ();

use BladePSGI::Test;

our @EXPORT = qw(refusing_library refuse allow times_refused);

# The file has the errno in it, and the role; each refusal is written down.
my $source = <<'C';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static ssize_t text_of(const char* path, char* text, size_t size) {
  const int in = open(path, O_RDONLY | O_CLOEXEC);
  if (in < 0) return -1;
  const ssize_t count = read(in, text, size - 1);
  close(in);
  text[count > 0 ? count : 0] = 0;
  return count;
}

static int is_for_us(const char* role) {
  char title[64];
  return *role == 0 || (text_of("/proc/self/cmdline", title, sizeof title) > 0 && strstr(title, role));
}

static int refused(const char* name, const char* mark) {
  const int saved = errno;
  char text[64];
  char* role = NULL;
  const ssize_t size = text_of(name, text, sizeof text);
  const int error = size > 0 ? (int)strtol(text, &role, 10) : ENOMEM;
  while (role && *role == ' ') ++role;
  if (size < 0 || (role && !is_for_us(role))) { errno = saved; return 0; }
  const int out = open(mark, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (out >= 0) { if (write(out, ".", 1) != 1) abort(); close(out); }
  errno = error;
  return 1;
}

int accept4(int fd, struct sockaddr* restrict peer, socklen_t* restrict size, int flags) {
  static int (*real)(int, struct sockaddr*, socklen_t*, int);
  if (!real) real = dlsym(RTLD_NEXT, "accept4");
  return refused("refuse-accept", "refused-accept") ? -1 : real(fd, peer, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr* message, int flags) {
  static ssize_t (*real)(int, const struct msghdr*, int);
  if (!real) real = dlsym(RTLD_NEXT, "sendmsg");
  return message->msg_controllen > 0 && refused("refuse-sendmsg", "refused-sendmsg") ? -1 : real(fd, message, flags);
}

ssize_t recvmsg(int fd, struct msghdr* message, int flags) {
  static ssize_t (*real)(int, struct msghdr*, int);
  if (!real) real = dlsym(RTLD_NEXT, "recvmsg");
  return message->msg_controllen > 0 && refused("refuse-recvmsg", "refused-recvmsg") ? -1 : real(fd, message, flags);
}

int signalfd(int fd, const sigset_t* set, int flags) {
  static int (*real)(int, const sigset_t*, int);
  if (!real) real = dlsym(RTLD_NEXT, "signalfd");
  return refused("refuse-signalfd", "refused-signalfd") ? -1 : real(fd, set, flags);
}

pid_t fork(void) {
  static pid_t (*real)(void);
  if (!real) real = dlsym(RTLD_NEXT, "fork");
  return refused("refuse-fork", "refused-fork") ? -1 : real();
}

long syscall(long number, ...) {
  static long (*real)(long, long, long, long, long, long, long);
  if (!real) real = dlsym(RTLD_NEXT, "syscall");
  va_list all;
  va_start(all, number);
  const long a = va_arg(all, long), b = va_arg(all, long), c = va_arg(all, long), d = va_arg(all, long), e = va_arg(all, long),
             f = va_arg(all, long);
  va_end(all);
  if (number == SYS_clone && refused("refuse-fork", "refused-fork")) return -1;
  return real(number, a, b, c, d, e, f);
}
C

my $built;

# Undef, and why, when it cannot be made or used here.
sub refusing_library {
    return (undef, 'a sanitizer must be the first library') if is_sanitized();
    $built ||= File::Temp::tempdir('refusals-XXXXXX', TMPDIR => 1, CLEANUP => 1);
    my $library = "$built/refusals.so";
    return $library if -e $library;
    write_text("$built/refusals.c", $source);
    my $made = run_to_end(['cc', '-shared', '-fPIC', '-O1', '-o', $library, "$built/refusals.c", '-ldl'], seconds => 60);
    return $made->{exit} eq 'exit 0' ? $library : (undef, "no C compiler: $made->{err}");
}

sub refuse {
    my ($server, $what, $error, $role) = @_;
    write_text($server->folder . "/refuse-$what.new", $error . (defined $role ? " $role" : ''));
    return rename $server->folder . "/refuse-$what.new", $server->folder . "/refuse-$what";
}

sub allow { my ($server, $what) = @_; return unlink $server->folder . "/refuse-$what" }

sub times_refused { my ($server, $what) = @_; return -s $server->folder . "/refused-$what" || 0 }

1;
