/* A network file system that keeps none of its promises, put before the C library by LD_PRELOAD.

NETWORK_UNDER   the folder to which this applies
NETWORK_RENAME  how a rename there is done:
                copied   what was renamed appears piece by piece: a file byte by byte, a folder file by file
                gap      the target is removed first
                lost     it is done, and reported as failed, as a request is that was sent twice
NETWORK_AT      which rename of this process it is that is done so, counted from 1; the process is then killed halfway,
                but for one that is lost
NETWORK_COUNT   a file that receives a byte for each rename
NETWORK_LOCKS   where set, every lock is granted
*/
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef int (*renaming)(const char *, const char *);

static int seen;

static int is_under(const char *path) {
    const char *folder = getenv("NETWORK_UNDER");
    return folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

static void copy_half(const char *from, const char *to) {
    char block[65536];
    struct stat status;
    int source = open(from, O_RDONLY), target = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    fstat(source, &status);
    for (off_t left = status.st_size / 2; left > 0;) {
        ssize_t got = read(source, block, left < (off_t)sizeof block ? (size_t)left : sizeof block);
        if (got <= 0 || write(target, block, got) != got) break;
        left -= got;
    }
    close(source);
    close(target);
}

static void move_half(const char *from, const char *to, renaming really) {
    char one[4096], other[4096];
    struct dirent **entries;
    int count = scandir(from, &entries, NULL, alphasort);
    mkdir(to, 0755);
    for (int k = 0; k < (count + 2) / 2; k++) {  /* two of them are . and .. */
        if (strcmp(entries[k]->d_name, ".") == 0 || strcmp(entries[k]->d_name, "..") == 0) continue;
        snprintf(one, sizeof one, "%s/%s", from, entries[k]->d_name);
        snprintf(other, sizeof other, "%s/%s", to, entries[k]->d_name);
        really(one, other);
    }
}

static void halfway(const char *how, const char *from, const char *to, renaming really) {
    struct stat status;
    if (strcmp(how, "gap") == 0) unlink(to);
    else if (stat(from, &status) == 0 && S_ISDIR(status.st_mode)) move_half(from, to, really);
    else copy_half(from, to);
    kill(getpid(), SIGKILL);
    pause();
}

int rename(const char *from, const char *to) {
    renaming really = (renaming)dlsym(RTLD_NEXT, "rename");
    const char *how = getenv("NETWORK_RENAME"), *at = getenv("NETWORK_AT"), *count = getenv("NETWORK_COUNT");
    if (!is_under(to)) return really(from, to);
    seen++;
    if (count != NULL) {
        int file = open(count, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (write(file, ".", 1) != 1) abort();
        close(file);
    }
    if (how == NULL || at == NULL || atoi(at) != seen) return really(from, to);
    if (strcmp(how, "lost") != 0) halfway(how, from, to, really);
    if (really(from, to) != 0) return -1;
    errno = ENOENT;
    return -1;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
    int (*really)(int, const char *, int, const char *, unsigned int) = dlsym(RTLD_NEXT, "renameat2");
    if (!is_under(to)) return really(from_folder, from, to_folder, to, flags);
    errno = EINVAL;
    return -1;
}

int flock(int file, int operation) {
    int (*really)(int, int) = dlsym(RTLD_NEXT, "flock");
    return getenv("NETWORK_LOCKS") != NULL ? 0 : really(file, operation);
}
