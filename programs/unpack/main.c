/* simbdp-unpack: unpacks an archive that a tenant sent into the directory `root` below its working directory. It is run as any app
 * is, by a uid that owns nothing, without a network (programs/appstore), so what is wrong with libarchive stays there; and who
 * started it looks at each file again when he copies them. Its last line on stderr says why an archive is refused. */
#include "entry.h"

#include "base/beneath.h"
#include "base/fd.h"
#include "base/mem.h"

#include <archive.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

enum { BLOCK_BYTES = 65536 };

struct unpack {
    struct archive *archive;
    int root;
    int64_t bytes, entries, max_bytes, max_entries;
};

static const char usage[] = "usage: simbdp-unpack ARCHIVE MAX_BYTES MAX_ENTRIES\n"
                            "Unpacks a tar (plain, .gz, .zst) or zip into ./root, which it makes. simbdp-appstore starts it.\n"
                            "Exit: 0 done, 65 the archive is refused, 74 it cannot be read or written, 2 usage.\n";

static int from_archive(struct unpack *u, struct err *e)
{
    int code = archive_errno(u->archive);
    const char *why = archive_error_string(u->archive);
    return code == ENOSPC || code == EIO || code == ENOMEM ? err_set(e, -code, "%s", why ? why : "it cannot be read")
                                                           : err_set(e, ERR_REFUSED, "%s", why ? why : "it is no archive");
}

static int make_parents(const struct unpack *u, char *path, struct err *e)
{
    for (char *slash = path; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        if (mkdirat(u->root, path, 0700) < 0 && errno != EEXIST)
            return err_sys(e, -errno, "cannot make %s", path);
    }
    return 0;
}

static int add_bytes(struct unpack *u, int64_t n, struct err *e)
{
    u->bytes += n;
    return u->bytes > u->max_bytes ? err_set(e, ERR_REFUSED, "unpacked it has more than %" PRId64 " bytes", u->max_bytes) : 0;
}

/* Holes count: whoever reads the file reads them. */
static int unpack_data(struct unpack *u, int fd, struct err *e)
{
    const void *p;
    size_t n;
    la_int64_t at, end = 0;
    int r;
    while ((r = archive_read_data_block(u->archive, &p, &n, &at)) == ARCHIVE_OK) {
        if (at < end || at > u->max_bytes)
            return err_set(e, ERR_REFUSED, "a file of it has more than %" PRId64 " bytes, or is damaged", u->max_bytes);
        r = add_bytes(u, at - end + (int64_t)n, e);
        end = at + (la_int64_t)n;
        if (r < 0)
            return r;
        for (size_t done = 0; done < n;) {
            ssize_t w = pwrite(fd, (const char *)p + done, n - done, at + (off_t)done);
            if (w < 0 && errno != EINTR)
                return err_sys(e, -errno, "cannot write");
            done += w > 0 ? (size_t)w : 0;
        }
    }
    return r == ARCHIVE_EOF ? 0 : from_archive(u, e);
}

static int unpack_file(struct unpack *u, struct archive_entry *entry, const char *path, struct err *e)
{
    mode_t mode = archive_entry_perm(entry) & 0111 ? 0755 : 0644;
    AUTO_FD int fd = beneath_open(u->root, path, O_WRONLY | O_CREAT | O_EXCL, mode);
    if (fd < 0)
        return fd == -EEXIST || fd == -EISDIR || fd == -ENOTDIR
                   ? err_set(e, ERR_REFUSED, "%s stands in it twice, or is a directory, too", path)
                   : err_sys(e, fd, "cannot make %s", path);
    if (archive_entry_size_is_set(entry) && archive_entry_size(entry) > u->max_bytes)
        return add_bytes(u, archive_entry_size(entry), e);
    return unpack_data(u, fd, e);
}

static int unpack_entry(struct unpack *u, struct archive_entry *entry, struct err *e)
{
    char path[ENTRY_PATH_MAX + 1];
    const char *name = archive_entry_pathname(entry);
    int r = name ? entry_path(name, path, e) : err_set(e, ERR_REFUSED, "an entry has no name that could be read");
    if (r == 0 && ++u->entries > u->max_entries)
        r = err_set(e, ERR_REFUSED, "it has more than %" PRId64 " files and directories", u->max_entries);
    if (r == 0)
        r = entry_check(entry, path, e);
    if (r == 0)
        r = make_parents(u, path, e);
    if (r < 0)
        return r;
    if (archive_entry_filetype(entry) == AE_IFREG)
        return *path ? unpack_file(u, entry, path, e) : err_set(e, ERR_REFUSED, "a file of it has no name");
    if (*path && mkdirat(u->root, path, 0700) < 0 && errno != EEXIST)
        return err_sys(e, -errno, "cannot make %s", path);
    return 0;
}

static int unpack(struct unpack *u, const char *path, struct err *e)
{
    struct archive_entry *entry;
    int r = ARCHIVE_OK;
    u->archive = archive_read_new();
    if (!u->archive)
        return err_set(e, -ENOMEM, "no memory");
    archive_read_support_format_tar(u->archive);
    archive_read_support_format_zip(u->archive);
    archive_read_support_filter_gzip(u->archive);
    archive_read_support_filter_zstd(u->archive);
    if (archive_read_open_filename(u->archive, path, BLOCK_BYTES) != ARCHIVE_OK)
        return from_archive(u, e);
    while ((r = archive_read_next_header(u->archive, &entry)) == ARCHIVE_OK) {
        int failed = unpack_entry(u, entry, e);
        if (failed < 0)
            return failed;
    }
    if (r != ARCHIVE_EOF)
        return from_archive(u, e);
    return u->entries ? 0 : err_set(e, ERR_REFUSED, "it is empty");
}

/* The archive chose the text: nothing that a terminal would obey is shown. */
static void say(const char *text)
{
    for (; *text; text++)
        fputc((unsigned char)*text < ' ' || (unsigned char)*text > '~' ? '?' : *text, stderr);
    fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    struct unpack u = {0};
    struct err e = {0};
    if (argc != 4 || argv[1][0] == '-')
        return fputs(usage, argc == 2 && !strcmp(argv[1], "--help") ? stdout : stderr), argc == 2 ? 0 : 2;
    setlocale(LC_ALL, "C.UTF-8"); /* names of zip and pax are UTF-8 */
    umask(0022);
    u.max_bytes = strtoll(argv[2], NULL, 10);
    u.max_entries = strtoll(argv[3], NULL, 10);
    if (mkdir("root", 0700) < 0 || (u.root = open("root", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        perror("root");
        return EX_IOERR;
    }
    int r = unpack(&u, argv[1], &e);
    archive_read_free(u.archive);
    close(u.root);
    if (r < 0)
        say(e.msg);
    return r == 0 ? 0 : r == ERR_REFUSED ? EX_DATAERR : EX_IOERR;
}
