/* The floor: the least that a prefork FastCGI server for PSGI can do, as something to compare with. No server.
 *
 *   bladepsgi-floor SOCKET WORKERS APPLICATION       calls the application with a fresh env hash; array responses only
 *   bladepsgi-floor SOCKET WORKERS --bare TEXT       never calls Perl: always this response
 *   bladepsgi-floor SOCKET WORKERS --pattern BYTES PIECES     the same, a body of the load generator's pattern in so many writes
 *
 * Each worker: accept4, recv until the empty STDIN record is there, make the env hash, call, copy status, headers and body into one
 * buffer, one send, close (or recv again when the peer keeps the connection). It trusts its peer, serves no request body, and ends
 * at the first thing that it does not expect. */
#define PERL_NO_GET_CONTEXT
/* Perl's headers in the order that they need. */
/* clang-format off */
#include <EXTERN.h>
#include <perl.h>
#include <XSUB.h>
/* clang-format on */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  RECORD_HEADER = 8,
  BEGIN_REQUEST = 1,
  END_REQUEST = 3,
  PARAMS = 4,
  STDIN = 5,
  STDOUT = 6,
  END_SIZE = 16,
  MOST_CONTENT = 65528,
  MOST_WORKERS = 64,
  PATTERN_PERIOD = 251,
};

static void fail(const char* what) {
  fprintf(stderr, "bladepsgi-floor: %s: %s\n", what, strerror(errno));
  _exit(1);
}

static void expect(int condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "bladepsgi-floor: unexpected: %s\n", what);
  _exit(1);
}

/* ── the request ─────────────────────────────────────────────────────────────────────────────────────────────────── */

struct request {
  unsigned char bytes[128 * 1024];
  size_t filled;
  size_t seen; /* records before this were looked at */
  const unsigned char* params;
  size_t params_size;
  int keep;
};

/* 1 once the last record of the request is there. */
static int parse(struct request* request) {
  while (request->filled - request->seen >= RECORD_HEADER) {
    const unsigned char* header = request->bytes + request->seen;
    const size_t content = (size_t)header[4] << 8 | header[5];
    const size_t total = RECORD_HEADER + content + header[6];
    if (request->filled - request->seen < total) return 0;
    request->seen += total;
    if (header[1] == BEGIN_REQUEST) {
      request->keep = header[RECORD_HEADER + 2] & 1;
    } else if (header[1] == PARAMS && content > 0) {
      expect(request->params == NULL, "a second record of parameters");
      request->params = header + RECORD_HEADER;
      request->params_size = content;
    } else if (header[1] == STDIN && content == 0) {
      return 1;
    }
  }
  return 0;
}

/* 0: the peer has closed. */
static int receive(int peer, struct request* request) {
  request->filled = request->seen = 0;
  request->params = NULL;
  request->keep = 0;
  while (1) {
    const ssize_t size =
        recv(peer, request->bytes + request->filled, sizeof request->bytes - request->filled, 0);
    if (size <= 0) return 0;
    request->filled += (size_t)size;
    if (parse(request)) return 1;
    expect(request->filled < sizeof request->bytes, "a request as large as that");
  }
}

static size_t take_length(const unsigned char** at) {
  size_t length = *(*at)++;
  if (length >= 128) {
    length = (length & 127) << 24 | (size_t)(*at)[0] << 16 | (size_t)(*at)[1] << 8 | (*at)[2];
    *at += 3;
  }
  return length;
}

/* ── the response ────────────────────────────────────────────────────────────────────────────────────────────────── */

struct response {
  unsigned char bytes[2 * 1024 * 1024];
  size_t size;
  size_t record; /* where the current record begins */
};

static void put_header(unsigned char* at, int type, size_t content) {
  const unsigned char header[RECORD_HEADER] = {
      1, (unsigned char)type, 0, 1, (unsigned char)(content >> 8), (unsigned char)content, 0, 0};
  memcpy(at, header, sizeof header);
}

static void begin_record(struct response* response) {
  response->record = response->size;
  response->size += RECORD_HEADER;
}

static void end_record(struct response* response) {
  put_header(response->bytes + response->record, STDOUT,
             response->size - response->record - RECORD_HEADER);
}

static void put(struct response* response, const char* bytes, size_t size) {
  while (size > 0) {
    size_t room = MOST_CONTENT - (response->size - response->record - RECORD_HEADER);
    if (room == 0) {
      end_record(response);
      begin_record(response);
      room = MOST_CONTENT;
    }
    const size_t part = size < room ? size : room;
    expect(response->size + part + RECORD_HEADER + END_SIZE < sizeof response->bytes,
           "a response as large as that");
    memcpy(response->bytes + response->size, bytes, part);
    response->size += part;
    bytes += part;
    size -= part;
  }
}

static void put_end(struct response* response) {
  end_record(response);
  put_header(response->bytes + response->size, END_REQUEST, END_SIZE - RECORD_HEADER);
  memset(response->bytes + response->size + RECORD_HEADER, 0, END_SIZE - RECORD_HEADER);
  response->size += END_SIZE;
}

/* A peer that has gone is its own affair. */
static void send_all(int peer, const unsigned char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(peer, bytes, size, MSG_NOSIGNAL);
    if (sent < 0) return;
    bytes += sent;
    size -= (size_t)sent;
  }
}

/* ── Perl ────────────────────────────────────────────────────────────────────────────────────────────────────────── */

static PerlInterpreter* interpreter;
static SV* application;
static SV* psgi_version;
static SV* psgi_input;
static SV* psgi_errors;

EXTERN_C void boot_DynaLoader(pTHX_ CV* cv);

static void boot(pTHX) {
  newXS("DynaLoader::boot_DynaLoader", boot_DynaLoader, __FILE__);
}

static void load(const char* path) {
  static char name[] = "bladepsgi-floor";
  static char option[] = "-e";
  static char program[] = "0";
  static char* arguments[] = {name, option, program, NULL};
  int count = 3;
  char** words = arguments;
  PERL_SYS_INIT3(&count, &words, &environ);
  interpreter = perl_alloc();
  perl_construct(interpreter);
  expect(perl_parse(interpreter, boot, count, words, NULL) == 0, "perl_parse");
  dTHX;
  sv_setpv(get_sv("main::path", GV_ADD), path);
  application = newSVsv(eval_pv("my $app = do $main::path; die $@ || $! if !ref $app; $app", TRUE));
  psgi_version = newSVsv(eval_pv("[1, 1]", TRUE));
  psgi_input = newSVsv(eval_pv("open my $in, '<', \\(my $empty = ''); $in", TRUE));
  psgi_errors = newSVsv(eval_pv("\\*STDERR", TRUE));
}

static void store(pTHX_ HV* env, const char* name, size_t size, SV* value) {
  if (hv_store(env, name, (I32)size, value, 0) == NULL) SvREFCNT_dec(value);
}

#define STORE(name, value) store(aTHX_ env, name, sizeof name - 1, value)

static HV* make_env(pTHX_ const struct request* request) {
  HV* env = newHV();
  const unsigned char* at = request->params;
  const unsigned char* end = at + request->params_size;
  int is_https = 0;
  while (at < end) {
    const size_t name_size = take_length(&at);
    const size_t value_size = take_length(&at);
    const char* name = (const char*)at;
    const char* value = name + name_size;
    at += name_size + value_size;
    if (name_size == 5 && memcmp(name, "HTTPS", 5) == 0) is_https = 1;
    store(aTHX_ env, name, name_size, newSVpvn(value, value_size));
  }
  STORE("psgi.version", newSVsv(psgi_version));
  STORE("psgi.url_scheme", is_https ? newSVpvs("https") : newSVpvs("http"));
  STORE("psgi.input", newSVsv(psgi_input));
  STORE("psgi.errors", newSVsv(psgi_errors));
  STORE("psgi.multithread", &PL_sv_no);
  STORE("psgi.multiprocess", &PL_sv_yes);
  STORE("psgi.run_once", &PL_sv_no);
  STORE("psgi.nonblocking", &PL_sv_no);
  STORE("psgi.streaming", &PL_sv_no);
  STORE("psgix.input.buffered", &PL_sv_yes);
  STORE("psgix.harakiri", &PL_sv_no);
  STORE("psgix.cleanup", &PL_sv_no);
  return env;
}

static AV* array_at(pTHX_ AV* array, SSize_t index) {
  SV** found = av_fetch(array, index, 0);
  expect(found != NULL && SvROK(*found) && SvTYPE(SvRV(*found)) == SVt_PVAV, "no array response");
  return (AV*)SvRV(*found);
}

static void put_sv(pTHX_ struct response* response, AV* array, SSize_t index) {
  STRLEN size = 0;
  const char* bytes = SvPV(*av_fetch(array, index, 0), size);
  put(response, bytes, size);
}

static void call(const struct request* request, struct response* response) {
  dTHX;
  dSP;
  ENTER;
  SAVETMPS;
  PUSHMARK(SP);
  XPUSHs(sv_2mortal(newRV_noinc((SV*)make_env(aTHX_ request))));
  PUTBACK;
  call_sv(application, G_SCALAR);
  SPAGAIN;
  SV* result = POPs;
  PUTBACK;
  expect(SvROK(result) && SvTYPE(SvRV(result)) == SVt_PVAV, "no array response");
  AV* whole = (AV*)SvRV(result);
  AV* headers = array_at(aTHX_ whole, 1);
  AV* body = array_at(aTHX_ whole, 2);
  response->size = 0;
  begin_record(response);
  put(response, "Status: ", 8);
  put_sv(aTHX_ response, whole, 0);
  for (SSize_t i = 0; i < av_len(headers); i += 2) {
    put(response, "\r\n", 2);
    put_sv(aTHX_ response, headers, i);
    put(response, ": ", 2);
    put_sv(aTHX_ response, headers, i + 1);
  }
  put(response, "\r\n\r\n", 4);
  for (SSize_t i = 0; i <= av_len(body); ++i)
    put_sv(aTHX_ response, body, i);
  put_end(response);
  FREETMPS;
  LEAVE;
}

/* ── the process ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static int is_bare;
static int pieces = 1;

/* A response that is there before any request: what is sent then, and nothing else. */
static void make_bare(struct response* response, const char* text, size_t size) {
  response->size = 0;
  begin_record(response);
  put(response, "Status: 200\r\n\r\n", 15);
  put(response, text, size);
  put_end(response);
}

static void serve(int peer, struct request* request, struct response* response) {
  if (!is_bare) call(request, response);
  const size_t step = (response->size + (size_t)pieces - 1) / (size_t)pieces;
  for (size_t at = 0; at < response->size; at += step) {
    const size_t left = response->size - at;
    send_all(peer, response->bytes + at, left < step ? left : step);
  }
}

static void work(int listener, struct response* response) {
  static struct request request;
  while (1) {
    const int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0 && errno == ECONNABORTED) continue;
    if (peer < 0) fail("accept4");
    while (receive(peer, &request)) {
      serve(peer, &request, response);
      if (!request.keep) break;
    }
    close(peer);
  }
}

static int listen_on(const char* path) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  expect(strlen(path) < sizeof name.sun_path, "a path as long as that");
  strcpy(name.sun_path, path);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) fail("socket");
  if (bind(listener, (const struct sockaddr*)&name, sizeof name) != 0) fail("bind");
  if (listen(listener, 1024) != 0) fail("listen");
  return listener;
}

static int start_workers(int listener, int count, struct response* response) {
  const pid_t parent = getpid();
  for (int i = 0; i < count; ++i) {
    const pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid > 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    work(listener, response);
  }
  /* A worker that ends has met what it does not expect. SIGTERM ends us, and with us the others. */
  int status = 0;
  wait(&status);
  return 1;
}

int main(int argc, char** argv) {
  static struct response response;
  if (argc < 4) {
    fprintf(
        stderr,
        "Usage: bladepsgi-floor SOCKET WORKERS APPLICATION|--bare TEXT|--pattern BYTES PIECES\n");
    return 2;
  }
  const int workers = atoi(argv[2]);
  expect(workers >= 1 && workers <= MOST_WORKERS, "number of workers");
  if (strcmp(argv[3], "--bare") == 0 && argc == 5) {
    is_bare = 1;
    make_bare(&response, argv[4], strlen(argv[4]));
  } else if (strcmp(argv[3], "--pattern") == 0 && argc == 6) {
    const long size = atol(argv[4]);
    is_bare = 1;
    pieces = atoi(argv[5]);
    expect(size >= 0 && pieces >= 1, "size or pieces");
    char* body = malloc((size_t)size + 1);
    if (body == NULL) fail("malloc");
    for (long i = 0; i < size; ++i)
      body[i] = (char)(i % PATTERN_PERIOD);
    make_bare(&response, body, (size_t)size);
    free(body);
  } else {
    load(argv[3]);
  }
  return start_workers(listen_on(argv[1]), workers, &response);
}
