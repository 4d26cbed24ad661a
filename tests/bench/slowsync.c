/* A preloaded library that makes fsync and fdatasync take SLOWSYNC_MS milliseconds longer: an SD card's stand-in.
 *
 *   cc -O2 -shared -fPIC -o slowsync.so slowsync.c -ldl
 *   LD_PRELOAD=./slowsync.so SLOWSYNC_MS=20 mqtthook run
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

typedef int (*sync_call)(int);

static sync_call real_fsync, real_fdatasync;
static struct timespec longer;

__attribute__((constructor)) static void prepare(void)
{
    const char *text = getenv("SLOWSYNC_MS");
    double ms = text ? atof(text) : 0.0;
    longer.tv_sec = (time_t)(ms / 1000.0);
    longer.tv_nsec = (long)((ms - 1000.0 * (double)longer.tv_sec) * 1e6);
    real_fsync = (sync_call)dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (sync_call)dlsym(RTLD_NEXT, "fdatasync");
}

int fsync(int file)
{
    nanosleep(&longer, NULL);
    return real_fsync(file);
}

int fdatasync(int file)
{
    nanosleep(&longer, NULL);
    return real_fdatasync(file);
}
