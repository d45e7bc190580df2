#include "entry.h"

#include "base/buf.h"

#include <string.h>
#include <sys/stat.h>

static int check_part(const char *part, size_t n, struct err *e)
{
    if (n == 2 && part[0] == '.' && part[1] == '.')
        return err_set(e, ERR_REFUSED, "an entry's path has a part '..'");
    if (n > ENTRY_NAME_MAX)
        return err_set(e, ERR_REFUSED, "an entry has a name of more than %d bytes", ENTRY_NAME_MAX);
    if (!utf8_valid(part, n))
        return err_set(e, ERR_REFUSED, "an entry's name is not UTF-8");
    return utf8_is_plain(part, n) ? 0 : err_set(e, ERR_REFUSED, "an entry has a control character in its name");
}

int entry_path(const char *name, char ret[ENTRY_PATH_MAX + 1], struct err *e)
{
    size_t at = 0;
    int depth = 0;
    ret[0] = 0;
    if (name[0] == '/')
        return err_set(e, ERR_REFUSED, "an entry has an absolute path");
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, "/");
        int r = check_part(p, n, e);
        if (r < 0)
            return r;
        if (n && !(n == 1 && *p == '.')) {
            if (at + n + 1 > ENTRY_PATH_MAX || ++depth > ENTRY_DEPTH_MAX)
                return err_set(e, ERR_REFUSED, "an entry's path has more than %d bytes or %d parts", ENTRY_PATH_MAX,
                               ENTRY_DEPTH_MAX);
            if (at)
                ret[at++] = '/';
            memcpy(ret + at, p, n);
            ret[at += n] = 0;
        }
        p += n + (p[n] == '/');
    }
    return 0;
}

int entry_check(struct archive_entry *entry, const char *path, struct err *e)
{
    mode_t type = archive_entry_filetype(entry);
    if (archive_entry_hardlink(entry) || archive_entry_symlink(entry) || type == AE_IFLNK)
        return err_set(e, ERR_REFUSED, "%s is a link; put a copy of the file there (tar -h does)", path);
    if (type != AE_IFREG && type != AE_IFDIR)
        return err_set(e, ERR_REFUSED, "%s is neither a file nor a directory", path);
    if (archive_entry_perm(entry) & (S_ISUID | S_ISGID | S_ISVTX) && type == AE_IFREG)
        return err_set(e, ERR_REFUSED, "%s has a setuid, setgid or sticky bit", path);
    return 0;
}
