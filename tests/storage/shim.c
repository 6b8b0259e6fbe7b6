/*
 * What a program does to the files below one folder: written down, held up, or ended at a chosen step.
 *
 * Preloaded into a real service, this stands between it and the C library. The calls that change files below
 * the folder, and those that make them durable, are steps: each is carried out and written down under one
 * lock, so that the log's order is the order in which they happened. Calls that the model of the disk does
 * not know are written down too, and make the log unusable, so that nothing goes by unseen.
 *
 *   SHIM_ROOT   the folder, absolute and without links
 *   SHIM_LOG    the log to append to; none: nothing is written down
 *   SHIM_KILL   N:before, N:middle or N:after: the process is killed at its Nth step; in the middle of a write
 *               its first half is written, any other step is killed before
 *   SHIM_DELAY  a file that says how many milliseconds each sync takes longer; looked at before each sync
 *
 * An entry is a head, the path below the folder, and the data; tests/src/write_log.rs reads them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct head {
    char mark[3];
    char kind;
    uint32_t path_length;
    uint64_t number;
    uint64_t data_length;
};

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_length;
static const char *delay;
static int log_fd = -1;
static long kill_at = 0;
static char kill_when = 'b';
static long steps = 0;
static uint64_t syncs = 0;

__attribute__((constructor)) static void begin(void)
{
    root = getenv("SHIM_ROOT");
    root_length = root ? strlen(root) : 0;
    delay = getenv("SHIM_DELAY");
    const char *log = getenv("SHIM_LOG");
    if (log) {
        log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (log_fd < 0) abort();
    }
    const char *kill = getenv("SHIM_KILL");
    if (kill) {
        char *rest;
        kill_at = strtol(kill, &rest, 10);
        if (*rest == ':') kill_when = rest[1];
    }
    /* so that two histories of one folder never share a number */
    syncs = (uint64_t)getpid() << 32;
}

/* ------------------------------------------------------------------------------- which file is meant */

/* What of a path lies below the folder: nothing is the folder itself; NULL for any other path. */
static const char *below(const char *path)
{
    if (!root_length || strncmp(path, root, root_length) != 0) return NULL;
    if (path[root_length] == 0) return path + root_length;
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static const char *below_at(int folder, const char *path, char *buffer)
{
    if (!root_length) return NULL;
    if (path[0] == '/') return below(path);
    char link[48];
    if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    if (length < 0 || (size_t)length + strlen(path) + 2 > PATH_MAX) return NULL;
    buffer[length] = '/';
    strcpy(buffer + length + 1, path);
    return below(buffer);
}

static const char *below_fd(int fd, char *buffer)
{
    if (!root_length || fd < 0) return NULL;
    int error = errno;
    char link[48];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    errno = error;
    if (length < 0) return NULL;
    buffer[length] = 0;
    return below(buffer);
}

static int exists(int folder, const char *path)
{
    struct stat found;
    int error = errno;
    int there = fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW) == 0;
    errno = error;
    return there;
}

/* ------------------------------------------------------------------------------------- steps and entries */

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Takes the lock for a step; ends the process where that is asked for. */
static int enter(void)
{
    pthread_mutex_lock(&order);
    steps++;
    int here = kill_at > 0 && steps == kill_at;
    if (here && kill_when == 'b') die();
    return here;
}

static void leave(int here)
{
    if (here) die();
    pthread_mutex_unlock(&order);
}

/* Before a step that has no middle. */
static void no_middle(int here)
{
    if (here && kill_when == 'm') die();
}

static void note(char kind, const char *path, uint64_t number, const void *data, size_t length)
{
    if (log_fd < 0) return;
    int error = errno;
    size_t path_length = strlen(path);
    struct head head = {{'H', 'R', 'W'}, kind, (uint32_t)path_length, number, length};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, path_length}, {(void *)data, length}};
    size_t all = sizeof head + path_length + length;
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)all) abort();
    errno = error;
}

static void strange(const char *path, const char *call)
{
    pthread_mutex_lock(&order);
    note('x', path, 0, call, strlen(call));
    pthread_mutex_unlock(&order);
}

/* ---------------------------------------------------------------------------------------------- opening */

static int opened(int folder, const char *path, int flags, mode_t mode)
{
    char buffer[PATH_MAX];
    const char *name = flags & (O_CREAT | O_TRUNC) ? below_at(folder, path, buffer) : NULL;
    if (!name) return (int)syscall(SYS_openat, folder, path, flags, mode);
    int there = exists(folder, path);
    if (there && !(flags & O_TRUNC)) return (int)syscall(SYS_openat, folder, path, flags, mode);
    int here = enter();
    no_middle(here);
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0) note(there ? 't' : 'c', name, 0, NULL, 0);
    leave(here);
    return fd;
}

#define MODE(flags, mode)                                              \
    mode_t mode = 0;                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                             \
        va_list rest;                                                  \
        va_start(rest, flags);                                         \
        mode = va_arg(rest, mode_t);                                   \
        va_end(rest);                                                  \
    }

int open(const char *path, int flags, ...) { MODE(flags, mode) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags, mode) return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags, mode) return opened(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* ---------------------------------------------------------------------------------------------- writing */

static ssize_t written(int fd, const char *name, const void *data, size_t length, off_t at, int moves)
{
    int here = enter();
    if (moves) {
        struct stat found;
        int appends = (fcntl(fd, F_GETFL) & O_APPEND) && fstat(fd, &found) == 0;
        at = appends ? found.st_size : lseek(fd, 0, SEEK_CUR);
    }
    size_t now = here && kill_when == 'm' ? length / 2 : length;
    ssize_t wrote = moves ? syscall(SYS_write, fd, data, now) : syscall(SYS_pwrite64, fd, data, now, at);
    if (wrote > 0) note('w', name, (uint64_t)at, data, (size_t)wrote);
    leave(here);
    return wrote;
}

ssize_t write(int fd, const void *data, size_t length)
{
    char buffer[PATH_MAX];
    const char *name = below_fd(fd, buffer);
    return name ? written(fd, name, data, length, 0, 1) : syscall(SYS_write, fd, data, length);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at)
{
    char buffer[PATH_MAX];
    const char *name = below_fd(fd, buffer);
    return name ? written(fd, name, data, length, at, 0) : syscall(SYS_pwrite64, fd, data, length, at);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return pwrite64(fd, data, length, at); }

/* Several pieces become one. */
static ssize_t gathered(int fd, const char *name, const struct iovec *parts, int count, off_t at, int moves)
{
    size_t length = 0;
    for (int part = 0; part < count; part++) length += parts[part].iov_len;
    char *data = malloc(length ? length : 1);
    if (!data) abort();
    size_t filled = 0;
    for (int part = 0; part < count; part++) {
        memcpy(data + filled, parts[part].iov_base, parts[part].iov_len);
        filled += parts[part].iov_len;
    }
    ssize_t wrote = written(fd, name, data, length, at, moves);
    free(data);
    return wrote;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    char buffer[PATH_MAX];
    const char *name = below_fd(fd, buffer);
    return name ? gathered(fd, name, parts, count, 0, 1) : syscall(SYS_writev, fd, parts, count);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    char buffer[PATH_MAX];
    const char *name = below_fd(fd, buffer);
    return name ? gathered(fd, name, parts, count, at, 0) : syscall(SYS_pwritev, fd, parts, count, at, 0);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

int ftruncate64(int fd, off64_t length)
{
    char buffer[PATH_MAX];
    const char *name = below_fd(fd, buffer);
    if (!name) return (int)syscall(SYS_ftruncate, fd, length);
    int here = enter();
    no_middle(here);
    int done = (int)syscall(SYS_ftruncate, fd, length);
    if (done == 0) note('t', name, (uint64_t)length, NULL, 0);
    leave(here);
    return done;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

/* ------------------------------------------------------------------------------------- making durable */

static void hold_up(void)
{
    if (!delay) return;
    char text[16] = "";
    int fd = (int)syscall(SYS_openat, AT_FDCWD, delay, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return;
    if (syscall(SYS_read, fd, text, sizeof text - 1) > 0) {
        long wait = strtol(text, NULL, 10);
        struct timespec pause = {wait / 1000, wait % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    syscall(SYS_close, fd);
}

/* Others go on while it lasts; what they write meanwhile it does not make durable. */
static int synced(int fd, const char *name, long call)
{
    int here = enter();
    no_middle(here);
    uint64_t number = ++syncs;
    note('b', name, number, NULL, 0);
    pthread_mutex_unlock(&order);
    hold_up();
    int done = (int)syscall(call, fd);
    pthread_mutex_lock(&order);
    if (done == 0) note('e', name, number, NULL, 0);
    leave(here);
    return done;
}

int fsync(int fd)
{
    char buffer[PATH_MAX];
    const char *name = below_fd(fd, buffer);
    return name ? synced(fd, name, SYS_fsync) : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    char buffer[PATH_MAX];
    const char *name = below_fd(fd, buffer);
    return name ? synced(fd, name, SYS_fdatasync) : (int)syscall(SYS_fdatasync, fd);
}

/* A step, and of no consequence: it does not reach the disk's own cache. */
int sync_file_range(int fd, off64_t from, off64_t length, unsigned flags)
{
    char buffer[PATH_MAX];
    const char *name = below_fd(fd, buffer);
    int here = name ? enter() : 0;
    if (name) no_middle(here);
    int done = (int)syscall(SYS_sync_file_range, fd, from, length, flags);
    if (name) {
        note('s', name, 0, NULL, 0);
        leave(here);
    }
    return done;
}

/* -------------------------------------------------------------------------------------- names in folders */

#define NAMED(kind, name, number, data, length, carry_out)             \
    do {                                                               \
        int here = enter();                                            \
        no_middle(here);                                               \
        int done = (int)(carry_out);                                   \
        if (done == 0) note(kind, name, number, data, length);         \
        leave(here);                                                   \
        return done;                                                   \
    } while (0)

int mkdirat(int folder, const char *path, mode_t mode)
{
    char buffer[PATH_MAX];
    const char *name = below_at(folder, path, buffer);
    if (!name || exists(folder, path)) return (int)syscall(SYS_mkdirat, folder, path, mode);
    NAMED('m', name, 0, NULL, 0, syscall(SYS_mkdirat, folder, path, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int unlinkat(int folder, const char *path, int flags)
{
    char buffer[PATH_MAX];
    const char *name = below_at(folder, path, buffer);
    if (!name || !exists(folder, path)) return (int)syscall(SYS_unlinkat, folder, path, flags);
    NAMED('u', name, 0, NULL, 0, syscall(SYS_unlinkat, folder, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path)
{
    int done = unlinkat(AT_FDCWD, path, 0);
    return done != 0 && errno == EISDIR ? unlinkat(AT_FDCWD, path, AT_REMOVEDIR) : done;
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    char one[PATH_MAX], other[PATH_MAX];
    const char *name = below_at(from, old, one), *target = below_at(to, new, other);
    if (!name && !target) return (int)syscall(SYS_renameat2, from, old, to, new, flags);
    if (!name || !target || flags) strange(name ? name : target, "a rename across the folder's edge");
    NAMED('r', name ? name : old, 0, target ? target : new, strlen(target ? target : new),
          syscall(SYS_renameat2, from, old, to, new, flags));
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

/* ------------------------------------------------------------------- what the model of the disk has no word for */

#define STRANGE_FD(fd, call)                                           \
    do {                                                               \
        char buffer[PATH_MAX];                                         \
        const char *name = below_fd(fd, buffer);                       \
        if (name) strange(name, call);                                 \
    } while (0)

int fallocate64(int fd, int mode, off64_t at, off64_t length)
{
    STRANGE_FD(fd, "fallocate");
    return (int)syscall(SYS_fallocate, fd, mode, at, length);
}
int fallocate(int fd, int mode, off_t at, off_t length) { return fallocate64(fd, mode, at, length); }
int posix_fallocate64(int fd, off64_t at, off64_t length)
{
    return fallocate64(fd, 0, at, length) == 0 ? 0 : errno;
}
int posix_fallocate(int fd, off_t at, off_t length) { return posix_fallocate64(fd, at, length); }

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags)
{
    STRANGE_FD(to, "copy_file_range");
    return syscall(SYS_copy_file_range, from, from_at, to, to_at, length, flags);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t length)
{
    STRANGE_FD(to, "sendfile");
    return syscall(SYS_sendfile, to, from, at, length);
}
ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags)
{
    STRANGE_FD(to, "splice");
    return syscall(SYS_splice, from, from_at, to, to_at, length, flags);
}
int linkat(int from, const char *old, int to, const char *new, int flags)
{
    char buffer[PATH_MAX];
    const char *name = below_at(to, new, buffer);
    if (name) strange(name, "link");
    return (int)syscall(SYS_linkat, from, old, to, new, flags);
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
int truncate64(const char *path, off64_t length)
{
    char buffer[PATH_MAX];
    const char *name = below_at(AT_FDCWD, path, buffer);
    if (name) strange(name, "truncate");
    return (int)syscall(SYS_truncate, path, length);
}
int truncate(const char *path, off_t length) { return truncate64(path, length); }
void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset)
{
    if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE)) STRANGE_FD(fd, "mmap");
    return (void *)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    return mmap64(at, length, protection, flags, fd, offset);
}
