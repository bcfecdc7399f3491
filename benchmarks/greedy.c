/* Greedy clients, as fast as a proxy takes what they send: `greedy KIND PORT TLS(0|1) CLIENTS SECONDS`.
 *
 * Each is one connection that always has more to send and reads whatever comes. The kinds are in `kinds` below. Over TLS each
 * request or frame is a record of its own, many of them in one segment. Who is cut off comes again. Says `open` when all are open,
 * waits for a line, runs, prints operations, answers of another status than is due, and how often a connection was lost. Where
 * the backend counts, the operations are 0 here. One thread, of low priority: whose waits are measured has the same core.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define PIECE 65536
#define RECORDS 32768 /* of ciphertext that are made at a time */
#define HEAD_START 56000
#define HEAD_END 60000
#define HEAD_LINE 1000
#define SECOND 1000000000LL
#define BYTE_EVERY 1000000LL /* 1 ms: what comes faster is read together by a slow proxy, and no longer byte by byte */
#define AGAIN 20000000LL     /* after a connection was lost and the next one refused */
#define GUARD 120            /* seconds beside those that were asked for, after which this ends whatever happens */

#define GET(path) "GET " path " HTTP/1.1\r\nHost: bench.localhost\r\n"
#define UPGRADE(path)                                                                   \
    GET(path) "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" \
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

enum counted { BACKEND, ANSWERS, PAYLOAD, FRAMES, BYTES };

static const struct kind {
    const char *name;
    const char *opening; /* sent once; its 101 is waited for */
    const char *sent;    /* sent again and again; NULL: the backend is the greedy one, or the head that grows is sent */
    int size;
    enum counted counted;
    const char *status; /* of the answers that are due */
} kinds[] = {
    {"missing", "", GET("/") "\r\n", sizeof GET("/") + 1, ANSWERS, "404"},
    {"answers", "", GET("/served/answer") "\r\n", sizeof GET("/served/answer") + 1, ANSWERS, "200"},
    {"chunks", "POST /served/body HTTP/1.1\r\nHost: bench.localhost\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", 6, BACKEND, "200"},
    {"pings", UPGRADE("/served/swallow/6"), "\x89\x80\1\2\3\4", 6, BACKEND, "101"},
    {"frames", UPGRADE("/served/swallow/7"), "\x81\x81\1\2\3\4y", 7, BACKEND, "101"},
    {"head", "", NULL, 0, BYTES, "200"},
    {"backend-chunks", GET("/served/chunks") "\r\n", NULL, 0, PAYLOAD, "200"},
    {"backend-frames", UPGRADE("/served/frames"), NULL, 0, FRAMES, "101"},
};

struct client {
    SSL *tls;
    BIO *records; /* ciphertext that was made and not all sent */
    int fd;       /* -1: closed */
    int64_t again;
    size_t sent; /* of the piece, or of the ciphertext */
    /* What was seen of answers. */
    int matched, status;
    int ends; /* of a head's empty line; 4: the body has begun */
    size_t part;
    /* The head that grows. */
    size_t head;
    int64_t byte_due;
};

static const struct kind *kind;
static SSL_CTX *context;
static int port, poller, begun;
static char piece[PIECE], seen[PIECE], head[HEAD_END + 5];
static size_t piece_size;
static unsigned long operations, others, losses;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "greedy %s: %s\n", kind->name, what);
    exit(1);
}

/* Counts answers by their status lines, wherever reads cut them. */
static void count_answers(struct client *of, const char *data, size_t size) {
    static const char version[] = "HTTP/1.1 ";
    for (const char *at = data, *end = data + size; at < end; at++) {
        if (of->matched == 0 && (at = memchr(at, 'H', end - at)) == NULL) return;
        if (of->matched < 9) {
            of->matched = *at == version[of->matched] ? of->matched + 1 : *at == 'H';
            continue;
        }
        of->status = of->status * 10 + *at - '0';
        if (++of->matched < 12) continue;
        if (of->status != atoi(kind->status)) {
            others++;
        } else if (kind->counted == ANSWERS) {
            operations++;
        }
        if (kind->counted == BYTES) of->head = 0; /* the next one */
        of->matched = of->status = 0;
    }
}

/* Counts what stands behind the head: each `x` is a chunk's payload, and each three bytes are a frame. */
static void count_body(struct client *of, const char *data, size_t size) {
    static const char end[] = "\r\n\r\n";
    const char *at = data, *last = data + size;
    for (; of->ends < 4 && at < last; at++) of->ends = *at == end[of->ends] ? of->ends + 1 : *at == '\r';
    count_answers(of, data, at - data);
    if (kind->counted == FRAMES) {
        of->part += last - at;
        operations += of->part / 3;
        of->part %= 3;
        return;
    }
    for (; at < last; at++) operations += *at == 'x';
}

static void counts(struct client *of, const char *data, size_t size) {
    if (kind->counted == PAYLOAD || kind->counted == FRAMES) {
        count_body(of, data, size);
    } else if (kind->counted != BACKEND) {
        count_answers(of, data, size);
    }
}

static void closes(struct client *one) {
    SSL_free(one->tls);
    if (one->fd >= 0) close(one->fd);
    memset(one, 0, sizeof *one);
    one->fd = -1;
}

static int whole(struct client *to, const char *data, size_t size) {
    return to->tls != NULL ? size == 0 || SSL_write(to->tls, data, size) == (int)size
                           : send(to->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* A backend that is greedy begins when it is asked to: not before all are open. */
static int asks(struct client *one) { return kind->sent != NULL || whole(one, kind->opening, strlen(kind->opening)); }

/* Connects, shakes hands, sends the opening, waits for a 101 that is due; 0: it did not come to that. */
static int opens(struct client *one) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval patience = {2, 0};
    int yes = 1;
    one->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(one->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(one->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (connect(one->fd, (struct sockaddr *)&address, sizeof address) < 0) return 0;
    if (context != NULL) {
        one->tls = SSL_new(context);
        SSL_set_fd(one->tls, one->fd);
        SSL_set_tlsext_host_name(one->tls, "bench.localhost");
        if (SSL_connect(one->tls) != 1) return 0;
    }
    if (kind->sent == NULL ? begun && !asks(one) : !whole(one, kind->opening, strlen(kind->opening))) return 0;
    if (kind->sent != NULL && strcmp(kind->status, "101") == 0) {
        /* The answer up to its empty line and no further: what comes behind it is counted. */
        char answer[2048];
        size_t size = 0;
        while (size < 4 || memcmp(answer + size - 4, "\r\n\r\n", 4) != 0) {
            int got = one->tls != NULL ? SSL_read(one->tls, answer + size, 1) : (int)recv(one->fd, answer + size, 1, 0);
            if (got != 1 || ++size == sizeof answer) return 0;
        }
        if (memcmp(answer, "HTTP/1.1 101", 12) != 0) return 0;
    }
    if (one->tls != NULL) {
        one->records = BIO_new(BIO_s_mem());
        SSL_set0_wbio(one->tls, one->records);
    }
    fcntl(one->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN | (kind->sent != NULL ? EPOLLOUT : 0), .data.ptr = one};
    epoll_ctl(poller, EPOLL_CTL_ADD, one->fd, &event);
    return 1;
}

static void loses(struct client *one) {
    losses++;
    closes(one);
}

/* Sends what fits, at most one piece; 0: the connection is lost. */
static int sends(struct client *to) {
    char *data = piece;
    size_t size = piece_size;
    if (to->tls != NULL) {
        if (BIO_pending(to->records) == 0) {
            while (BIO_pending(to->records) < RECORDS)
                if (SSL_write(to->tls, kind->sent, kind->size) != kind->size) return 0;
        }
        size = BIO_get_mem_data(to->records, &data);
    }
    ssize_t sent = send(to->fd, data + to->sent, size - to->sent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    to->sent += sent;
    if (to->sent == size) {
        to->sent = 0;
        if (to->tls != NULL && BIO_reset(to->records) != 1) return 0;
    }
    return 1;
}

/* Reads what there is, at most one piece; 0: the connection is lost. */
static int reads(struct client *from) {
    for (size_t all = 0; all < PIECE;) {
        int got;
        if (from->tls != NULL) {
            got = SSL_read(from->tls, seen, PIECE);
            if (got <= 0) return SSL_get_error(from->tls, got) == SSL_ERROR_WANT_READ;
        } else {
            got = recv(from->fd, seen, PIECE, 0);
            if (got <= 0) return got < 0 && errno == EAGAIN;
        }
        counts(from, seen, got);
        all += from->tls != NULL ? got : PIECE;
    }
    return 1;
}

/* Sends the next byte of a head, or its beginning, or its end; then the answer is waited for. 0: the connection is lost. */
static int grows(struct client *one, int64_t now) {
    if (now < one->byte_due || one->head > HEAD_END) return 1;
    int byte = one->head >= HEAD_START && one->head < HEAD_END;
    size_t size = byte ? 1 : one->head < HEAD_START ? HEAD_START - one->head : 4;
    ssize_t sent = send(one->fd, head + one->head, size, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    one->head += sent;
    operations += byte;
    one->byte_due = now + BYTE_EVERY;
    return 1;
}

static void makes_head(void) {
    size_t size = sprintf(head, GET("/served/answer"));
    for (int line = 0; size < HEAD_END; line++) {
        size_t start = size;
        size += snprintf(head + size, HEAD_END + 1 - size, "X-Filler-%02d: ", line);
        for (; size < HEAD_END && size < start + HEAD_LINE; size++) head[size] = 'a';
        if (size + 32 < HEAD_END) size += sprintf(head + size, "\r\n");
    }
    memcpy(head + HEAD_END, "\r\n\r\n", 5);
}

static void prepares(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0) kind = &kinds[i];
    if (kind == NULL) exit(2);
    if (kind->sent != NULL)
        for (; piece_size + kind->size <= PIECE; piece_size += kind->size) memcpy(piece + piece_size, kind->sent, kind->size);
    makes_head();
}

int main(int count, char **arguments) {
    if (count != 6) return 2;
    prepares(arguments[1]);
    port = atoi(arguments[2]);
    int clients = atoi(arguments[4]);
    double seconds = atof(arguments[5]);
    context = atoi(arguments[3]) ? SSL_CTX_new(TLS_client_method()) : NULL;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1);
    alarm((unsigned)seconds + GUARD);
    setpriority(PRIO_PROCESS, 0, 10);
    poller = epoll_create1(0);
    struct client *all = calloc(clients, sizeof *all);
    for (int i = 0; i < clients; i++)
        if (!opens(&all[i])) fail("a connection did not open");
    puts("open");
    fflush(stdout);
    if (getchar() != '\n') return 1;
    begun = 1;
    for (int i = 0; i < clients; i++)
        if (!asks(&all[i])) fail("a request was not taken");
    for (int64_t now = now_ns(), end = now + (int64_t)(seconds * 1e9); now < end; now = now_ns()) {
        for (int i = 0; i < clients; i++) {
            struct client *one = &all[i];
            if (one->fd < 0 && one->again <= now && !opens(one)) {
                closes(one);
                one->again = now_ns() + AGAIN;
            }
            if (one->fd >= 0 && kind->counted == BYTES && !grows(one, now)) loses(one);
        }
        struct epoll_event events[64];
        struct timespec pause = {0, kind->counted == BYTES ? BYTE_EVERY / 4 : AGAIN};
        int ready = epoll_pwait2(poller, events, 64, &pause, NULL);
        for (int i = 0; i < ready; i++) {
            struct client *one = events[i].data.ptr;
            if (events[i].events & ~EPOLLOUT && !reads(one)) {
                loses(one);
            } else if (events[i].events & EPOLLOUT && !sends(one)) {
                loses(one);
            }
        }
    }
    printf("%lu %lu %lu\n", operations, others, losses);
    return 0;
}
