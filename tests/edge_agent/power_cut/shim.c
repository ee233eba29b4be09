/* Record what a power cut would leave of a folder, and cut the power at a chosen step.
 *
 * Loaded with LD_PRELOAD. Nothing a process writes is durable until it says so:
 *   - the bytes of a file are durable after fsync/fdatasync of that file;
 *   - a name (create, rename, unlink, mkdir, rmdir) is durable after fsync of its folder. A rename between two
 *     folders is two changes: the one may be durable without the other.
 * That is less than any real file system gives, so what survives here survives there.
 *
 * The durable state is kept beside the folder, so that SIGKILL does not take it along:
 *   STATE/files/<id>   durable bytes of a file
 *   STATE/log          one line per durable name: "+ folder-id kind file-id name" or "- folder-id name"
 *   STATE/counts       8 native 64-bit numbers: steps, fsyncs of files, of folders, bytes written, creates,
 *                      renames, removals, whether a cut fired
 * Files that were there at the start have the id b<inode>; made ones n<pid>-<number>, as inodes are reused.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { STEPS, FILE_SYNCS, FOLDER_SYNCS, BYTES, CREATES, RENAMES, REMOVALS, FIRED, COUNTS };
#define BUCKETS 4096
#define ID_BYTES 40

typedef struct range { off_t from, to; struct range *next; } range;
typedef struct node { ino_t ino; char id[ID_BYTES]; range *dirty; struct node *next; } node;
typedef struct change { ino_t folder; char *line; struct change *next; } change;

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char root[PATH_MAX], state[PATH_MAX];
static size_t root_len;
static dev_t root_dev;
static node *nodes[BUCKETS];
static change *pending, **pending_end = &pending;
static unsigned long made, cut_at;
static uint64_t no_counts[COUNTS], *counts = no_counts;
static int log_fd = -1;
static __thread int inside;

#define REAL(type, name, ...) static type (*real_##name)(__VA_ARGS__); \
    static void find_##name(void) { if (!real_##name) real_##name = dlsym(RTLD_NEXT, #name); }
REAL(int, open64, const char *, int, ...)
REAL(int, openat64, int, const char *, int, ...)
REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(ssize_t, pwrite64, int, const void *, size_t, off_t)
REAL(int, ftruncate64, int, off_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, renameat, int, const char *, int, const char *)
REAL(int, unlinkat, int, const char *, int)
REAL(int, mkdir, const char *, mode_t)

static int watching(void) { return root_len && !inside; }

static node *node_of(ino_t ino) {
    node **place = &nodes[ino % BUCKETS];
    for (node *one = *place; one; one = one->next) if (one->ino == ino) return one;
    node *one = calloc(1, sizeof *one);
    one->ino = ino;
    snprintf(one->id, ID_BYTES, "b%lu", (unsigned long)ino);
    one->next = *place;
    return *place = one;
}

static void clean(node *one) {
    while (one->dirty) { range *next = one->dirty->next; free(one->dirty); one->dirty = next; }
}

static void made_new(ino_t ino) {
    node *one = node_of(ino);
    clean(one);
    snprintf(one->id, ID_BYTES, "n%d-%lu", getpid(), ++made);
}

/* One step of the disk: here the power may go. */
static void step(void) {
    counts[STEPS]++;
    if (cut_at && counts[STEPS] == cut_at) {
        counts[FIRED] = 1;
        kill(getpid(), SIGKILL);
        pause();
    }
}

static int is_ours(int fd, struct stat *found) {
    if (fstat(fd, found) || found->st_dev != root_dev) return 0;
    if (!S_ISREG(found->st_mode) && !S_ISDIR(found->st_mode)) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < (ssize_t)root_len) return 0;
    path[length] = 0;
    return !strncmp(path, root, root_len) && (path[root_len] == '/' || path[root_len] == 0);
}

/* Find the folder a path lies in and its name there; 0 if it is not ours. */
static int locate(int at, const char *path, ino_t *folder, char *name) {
    char whole[PATH_MAX], real[PATH_MAX], link[64];
    if (path[0] == '/') snprintf(whole, sizeof whole, "%s", path);
    else {
        char base[PATH_MAX] = ".";
        if (at != AT_FDCWD) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            ssize_t length = readlink(link, base, sizeof base - 1);
            if (length < 0) return 0;
            base[length] = 0;
        }
        if (snprintf(whole, sizeof whole, "%s/%s", base, path) >= (int)sizeof whole) return 0;
    }
    size_t length = strlen(whole);
    while (length > 1 && whole[length - 1] == '/') whole[--length] = 0;
    char *slash = strrchr(whole, '/');
    if (!slash) return 0;
    snprintf(name, NAME_MAX + 1, "%s", slash + 1);
    *slash = 0;
    if (!realpath(whole[0] ? whole : "/", real)) return 0;
    if (strncmp(real, root, root_len) || (real[root_len] != '/' && real[root_len])) return 0;
    struct stat found;
    if (stat(real, &found) || found.st_dev != root_dev) return 0;
    *folder = found.st_ino;
    return 1;
}

static void note(ino_t folder, char *line) {
    change *one = calloc(1, sizeof *one);
    one->folder = folder;
    one->line = line;
    *pending_end = one;
    pending_end = &one->next;
}

static void note_added(ino_t folder, const char *name, const struct stat *found) {
    char *line;
    char kind = S_ISDIR(found->st_mode) ? 'd' : 'f';
    if (asprintf(&line, "+ %s %c %s %s\n", node_of(folder)->id, kind, node_of(found->st_ino)->id, name) < 0) abort();
    note(folder, line);
}

static void note_removed(ino_t folder, const char *name) {
    char *line;
    if (asprintf(&line, "- %s %s\n", node_of(folder)->id, name) < 0) abort();
    note(folder, line);
}

static void wrote(int fd, off_t from, size_t length) {
    struct stat found;
    if (!is_ours(fd, &found)) return;
    counts[BYTES] += length;
    node *one = node_of(found.st_ino);
    off_t to = from + (off_t)length;
    if (one->dirty && from <= one->dirty->to && to >= one->dirty->from) {
        if (from < one->dirty->from) one->dirty->from = from;
        if (to > one->dirty->to) one->dirty->to = to;
        return;
    }
    range *more = calloc(1, sizeof *more);
    more->from = from; more->to = to; more->next = one->dirty;
    one->dirty = more;
}

static void copy(int from, int to, range *one) {
    static char block[1 << 16];
    off_t place = one->from;
    while (place < one->to) {
        size_t wanted = one->to - place < (off_t)sizeof block ? (size_t)(one->to - place) : sizeof block;
        ssize_t got = pread(from, block, wanted, place);
        if (got <= 0) return;
        if (real_pwrite64(to, block, got, place) != got) abort();
        place += got;
    }
}

static void sync_file(int fd, const struct stat *found) {
    node *one = node_of(found->st_ino);
    char path[PATH_MAX + 64], own[64];
    snprintf(path, sizeof path, "%s/files/%s", state, one->id);
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    int to = real_open64(path, O_WRONLY | O_CREAT, 0600), from = real_open64(own, O_RDONLY);
    if (to < 0 || from < 0) abort();
    for (range *dirty = one->dirty; dirty; dirty = dirty->next) copy(from, to, dirty);
    if (real_ftruncate64(to, found->st_size)) abort();
    close(to);
    close(from);
    clean(one);
    counts[FILE_SYNCS]++;
}

static void sync_folder(ino_t folder) {
    change **place = &pending;
    while (*place) {
        change *one = *place;
        if (one->folder != folder) { place = &one->next; continue; }
        if (real_write(log_fd, one->line, strlen(one->line)) < 0) abort();
        *place = one->next;
        free(one->line);
        free(one);
    }
    pending_end = place;
    counts[FOLDER_SYNCS]++;
}

static int synced(int fd, int (*real)(int)) {
    if (!watching()) return real(fd);
    pthread_mutex_lock(&lock);
    inside = 1;
    struct stat found;
    int ours = is_ours(fd, &found);
    if (ours) step();
    int answer = real(fd);
    if (!answer && ours) S_ISDIR(found.st_mode) ? sync_folder(found.st_ino) : sync_file(fd, &found);
    inside = 0;
    pthread_mutex_unlock(&lock);
    return answer;
}

int fsync(int fd) { find_fsync(); return synced(fd, real_fsync); }
int fdatasync(int fd) { find_fdatasync(); return synced(fd, real_fdatasync); }

static int opened(int at, const char *path, int flags, mode_t mode) {
    find_open64(); find_openat64();
    if (!watching() || !(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE)
        return real_openat64(at, path, flags, mode);
    pthread_mutex_lock(&lock);
    inside = 1;
    ino_t folder;
    char name[NAME_MAX + 1];
    struct stat before, after;
    int ours = locate(at, path, &folder, name), existed = !fstatat(at, path, &before, 0);
    if (ours && !existed) step();
    int fd = real_openat64(at, path, flags, mode), error = errno;
    if (fd >= 0 && ours && !existed && !fstat(fd, &after)) {
        made_new(after.st_ino);
        note_added(folder, name, &after);
        counts[CREATES]++;
    }
    inside = 0;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); \
    mode = va_arg(more, mode_t); va_end(more); }
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return opened(at, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags | O_LARGEFILE, 0); }
int __openat_2(int at, const char *path, int flags) { return opened(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return opened(at, path, flags | O_LARGEFILE, 0); }

ssize_t write(int fd, const void *bytes, size_t length) {
    find_write();
    if (!watching()) return real_write(fd, bytes, length);
    ssize_t done = real_write(fd, bytes, length);
    int error = errno;
    if (done > 0) {
        pthread_mutex_lock(&lock);
        inside = 1;
        off_t end = lseek(fd, 0, SEEK_CUR);
        if (end >= 0) wrote(fd, end - done, done);
        inside = 0;
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    find_writev();
    ssize_t done = real_writev(fd, parts, count);
    int error = errno;
    if (done > 0 && watching()) {
        pthread_mutex_lock(&lock);
        inside = 1;
        off_t end = lseek(fd, 0, SEEK_CUR);
        if (end >= 0) wrote(fd, end - done, done);
        inside = 0;
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t place) {
    find_pwrite64();
    if (!watching()) return real_pwrite64(fd, bytes, length, place);
    pthread_mutex_lock(&lock);
    inside = 1;
    struct stat found;
    if (is_ours(fd, &found)) step();
    ssize_t done = real_pwrite64(fd, bytes, length, place);
    int error = errno;
    if (done > 0) wrote(fd, place, done);
    inside = 0;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t place) { return pwrite64(fd, bytes, length, place); }
int ftruncate64(int fd, off_t length) { find_ftruncate64(); return real_ftruncate64(fd, length); }
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int moved(int from_at, const char *from, int to_at, const char *to) {
    find_renameat();
    if (!watching()) return real_renameat(from_at, from, to_at, to);
    pthread_mutex_lock(&lock);
    inside = 1;
    ino_t from_folder, to_folder;
    char from_name[NAME_MAX + 1], to_name[NAME_MAX + 1];
    struct stat found;
    int leaves = locate(from_at, from, &from_folder, from_name), comes = locate(to_at, to, &to_folder, to_name);
    int known = !fstatat(from_at, from, &found, AT_SYMLINK_NOFOLLOW);
    if (leaves || comes) step();
    int answer = real_renameat(from_at, from, to_at, to), error = errno;
    if (!answer && known) {
        if (leaves) note_removed(from_folder, from_name);
        if (comes) note_added(to_folder, to_name, &found);
        counts[RENAMES]++;
    }
    inside = 0;
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}
int rename(const char *from, const char *to) { return moved(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int at, const char *from, int to_at, const char *to) { return moved(at, from, to_at, to); }

static int removed(int at, const char *path, int flags) {
    find_unlinkat();
    if (!watching()) return real_unlinkat(at, path, flags);
    pthread_mutex_lock(&lock);
    inside = 1;
    ino_t folder;
    char name[NAME_MAX + 1];
    struct stat found;
    int ours = locate(at, path, &folder, name) && !fstatat(at, path, &found, AT_SYMLINK_NOFOLLOW);
    if (ours) step();
    int answer = real_unlinkat(at, path, flags), error = errno;
    if (!answer && ours) {
        note_removed(folder, name);
        counts[REMOVALS]++;
    }
    inside = 0;
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return removed(at, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) { return unlink(path) && errno == EISDIR ? rmdir(path) : 0; }

int mkdir(const char *path, mode_t mode) {
    find_mkdir();
    if (!watching()) return real_mkdir(path, mode);
    pthread_mutex_lock(&lock);
    inside = 1;
    ino_t folder;
    char name[NAME_MAX + 1];
    struct stat found;
    int ours = locate(AT_FDCWD, path, &folder, name);
    if (ours) step();
    int answer = real_mkdir(path, mode), error = errno;
    if (!answer && ours && !stat(path, &found)) {
        made_new(found.st_ino);
        note_added(folder, name, &found);
    }
    inside = 0;
    pthread_mutex_unlock(&lock);
    errno = error;
    return answer;
}

/* Begin to watch a folder. `cut` is the step at which the power goes, 0 = never. */
int power_cut_watch(const char *folder, const char *where, unsigned long cut) {
    find_open64(); find_openat64(); find_write(); find_pwrite64(); find_ftruncate64(); find_fsync(); find_fdatasync();
    pthread_mutex_lock(&lock);
    inside = 1;
    struct stat found;
    char path[PATH_MAX + 16];
    root_len = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) nodes[bucket] = NULL;
    pending = NULL;
    pending_end = &pending;
    made = 0;
    cut_at = cut;
    if (!realpath(folder, root) || !realpath(where, state) || stat(root, &found)) abort();
    root_dev = found.st_dev;
    if (log_fd >= 0) close(log_fd);
    snprintf(path, sizeof path, "%s/log", state);
    log_fd = real_open64(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    snprintf(path, sizeof path, "%s/counts", state);
    int fd = real_open64(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log_fd < 0 || fd < 0 || real_ftruncate64(fd, sizeof no_counts)) abort();
    counts = mmap(NULL, sizeof no_counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counts == MAP_FAILED) abort();
    memset(counts, 0, sizeof no_counts);
    close(fd);
    root_len = strlen(root);
    inside = 0;
    pthread_mutex_unlock(&lock);
    return 0;
}

void power_cut_next(unsigned long steps) { cut_at = steps ? counts[STEPS] + steps : 0; }

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("POWER_CUT_FOLDER"), *where = getenv("POWER_CUT_STATE"), *at = getenv("POWER_CUT_AT");
    /* Children would keep books of their own over the same files; they are not watched. */
    unsetenv("LD_PRELOAD");
    if (folder && where) power_cut_watch(folder, where, at ? strtoul(at, NULL, 10) : 0);
}
