/* The backend of greedy clients: `greedy_backend` prints its port and runs until killed. Never the limit.
 *
 * By path, in any request's line:
 *   /served/answer     12 bytes, to each of any number of requests
 *   /served/body       reads a body for ever and counts its `x`
 *   /served/swallow/N  a WebSocket that is read and never answered; each N bytes count as a frame
 *   /served/chunks     chunks of a byte, for ever
 *   /served/frames     a WebSocket that sends text frames of a byte, for ever
 *   /count             what was counted since the start
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define EVENTS 64
#define PIECE 65520 /* whole chunks and whole frames */
#define HEAD 131072
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello world\n"
#define CHUNKED "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
#define SWITCHED "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"

enum mode { HEADS, BODY, SWALLOWS, STREAMS };

struct connection {
    enum mode mode;
    int fd;
    const char *stream; /* a piece that is sent again and again */
    size_t sent;        /* of it */
    size_t frame, part; /* size of a frame, and what was read of the next one */
    size_t size;
    char held[HEAD + 1];
};

static int poller;
static unsigned long counted;
static char seen[PIECE], chunks[PIECE], frames[PIECE];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void closes(struct connection *one) {
    close(one->fd);
    free(one);
}

/* What is sent here always fits: a proxy waits for it. */
static int says(struct connection *to, const char *text) {
    return send(to->fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

static int streams(struct connection *one, const char *from) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = one};
    one->mode = STREAMS;
    one->stream = from;
    return epoll_ctl(poller, EPOLL_CTL_MOD, one->fd, &event) == 0;
}

/* RFC 6455, 4.2.2. */
static int switches(struct connection *one, const char *head) {
    static const char name[] = "\r\nSec-WebSocket-Key:", guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char key[64], both[128], answer[256];
    unsigned char digest[SHA_DIGEST_LENGTH], accept[32];
    const char *at = strcasestr(head, name);
    if (at == NULL || sscanf(at + sizeof name - 1, " %63[^\r]", key) != 1) return 0;
    snprintf(both, sizeof both, "%s%s", key, guid);
    SHA1((unsigned char *)both, strlen(both), digest);
    EVP_EncodeBlock(accept, digest, sizeof digest);
    snprintf(answer, sizeof answer, SWITCHED, accept);
    return says(one, answer);
}

static void counts(struct connection *of, const char *data, size_t size) {
    if (of->mode == BODY) {
        for (size_t i = 0; i < size; i++) counted += data[i] == 'x';
    } else if (of->mode == SWALLOWS) {
        of->part += size;
        counted += of->part / of->frame;
        of->part %= of->frame;
    }
}

/* Does what a head asks for; 0: the connection ends. */
static int answers(struct connection *one, char *head) {
    static char text[128];
    char *path = strchr(head, '/');
    if (path == NULL) return 0;
    if (strncmp(path, "/served/answer", 14) == 0) return says(one, ANSWER);
    if (strncmp(path, "/served/body", 12) == 0) {
        one->mode = BODY;
        return 1;
    }
    if (strncmp(path, "/served/swallow/", 16) == 0) {
        one->mode = SWALLOWS;
        one->frame = atoi(path + 16);
        return one->frame > 0 && switches(one, head);
    }
    if (strncmp(path, "/served/chunks", 14) == 0) return says(one, CHUNKED) && streams(one, chunks);
    if (strncmp(path, "/served/frames", 14) == 0) return switches(one, head) && streams(one, frames);
    if (strncmp(path, "/count", 6) == 0) {
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n%020lu", counted);
        return says(one, text);
    }
    return 0;
}

/* Takes all whole heads off what is held; what is left behind one that changes the mode is counted. */
static int takes(struct connection *one) {
    char *end, *start = one->held;
    one->held[one->size] = 0;
    while (one->mode == HEADS && (end = strstr(start, "\r\n\r\n")) != NULL) {
        end[2] = 0;
        if (!answers(one, start)) return 0;
        start = end + 4;
    }
    one->size -= start - one->held;
    if (one->mode != HEADS) {
        counts(one, start, one->size);
        one->size = 0;
    }
    memmove(one->held, start, one->size);
    return one->size < HEAD;
}

static int reads(struct connection *one) {
    char *to = one->mode == HEADS ? one->held + one->size : seen;
    ssize_t got = recv(one->fd, to, one->mode == HEADS ? HEAD - one->size : PIECE, 0);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    if (one->mode == HEADS) {
        one->size += got;
        return takes(one);
    }
    counts(one, seen, got);
    return 1;
}

static int sends(struct connection *one) {
    ssize_t sent = send(one->fd, one->stream + one->sent, PIECE - one->sent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    one->sent = (one->sent + sent) % PIECE;
    return 1;
}

static void accept_all(int listener) {
    int yes = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *one = calloc(1, sizeof *one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
        one->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
    }
}

int main(void) {
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof own;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpriority(PRIO_PROCESS, 0, 10);
    for (size_t i = 0; i < PIECE; i += 6) memcpy(chunks + i, "1\r\nx\r\n", 6);
    for (size_t i = 0; i < PIECE; i += 3) memcpy(frames + i, "\x81\1y", 3);
    if (bind(listener, (struct sockaddr *)&own, size) < 0 || listen(listener, 4096) < 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&own, &size);
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *one = events[i].data.ptr;
            if (one == NULL) {
                accept_all(listener);
            } else if ((events[i].events & ~EPOLLOUT && !reads(one)) || (events[i].events & EPOLLOUT && one->stream != NULL && !sends(one))) {
                closes(one);
            }
        }
    }
}
