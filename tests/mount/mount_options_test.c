/* The list after -o: what is taken, what is refused and how, and what is handed on. */
#include "check.h"
#include "error.h"
#include "mount_options.h"

#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static struct mount_options parsed(const char *list)
{
    struct mount_options options;
    int error = mount_options_parse(&options, list);
    if (error != 0)
        fprintf(stderr, "\"%s\": %s\n", list, last_error());
    CHECK(error == 0);
    return options;
}

static void check_flags(const char *list, unsigned long flags)
{
    struct mount_options options = parsed(list);
    if (options.flags != flags)
        fprintf(stderr, "\"%s\": flags %#lx\n", list, options.flags);
    CHECK(options.flags == flags);
    mount_options_free(&options);
}

static void check_refused(const char *list, const char *words)
{
    struct mount_options options;
    CHECK(mount_options_parse(&options, list) == -EINVAL);
    if (!strstr(last_error(), words))
        fprintf(stderr, "\"%s\": %s\n", list, last_error());
    CHECK(strstr(last_error(), words) != NULL);
    CHECK(options.fsname == NULL && options.subtype == NULL);
}

static void test_flags(void)
{
    const unsigned long usual = MS_NOSUID | MS_NODEV;
    check_flags(NULL, usual);
    check_flags("", usual);
    check_flags(",,", usual);
    check_flags("defaults", usual);
    check_flags("ro", usual | MS_RDONLY);
    check_flags("ro,rw", usual);
    check_flags("rw,ro", usual | MS_RDONLY);
    check_flags("suid,dev", 0);
    check_flags("suid,nosuid,dev,nodev", usual);
    check_flags("noexec,sync,dirsync", usual | MS_NOEXEC | MS_SYNCHRONOUS | MS_DIRSYNC);
    check_flags("noexec,exec,sync,async", usual);
    check_flags("noatime,nodiratime,lazytime", usual | MS_NOATIME | MS_NODIRATIME | MS_LAZYTIME);
    check_flags("noatime,atime,nodiratime,diratime,lazytime,nolazytime", usual);
    check_flags("noatime,strictatime", usual | MS_STRICTATIME);
    check_flags("strictatime,noatime", usual | MS_NOATIME);
    check_flags("strictatime,relatime", usual);
    check_flags("strictatime,nostrictatime,norelatime", usual);
    check_flags("nosymfollow", usual | 256);
    check_flags("nosymfollow,symfollow", usual);
}

static void test_ignored(void)
{
    check_flags("auto,noauto,user,user=alice,nouser,users,nousers,owner,noowner,group,nogroup,nofail,_netdev,"
                "comment=a word,x-systemd.automount,x-gvfs-name=Shelf,X-mount.mkdir=0755,uhelper=udisks2,nomand",
                MS_NOSUID | MS_NODEV);
}

static void test_parameters(void)
{
    struct mount_options options = parsed("default_permissions,allow_other,max_read=131072,fsname=shelf,subtype=book,"
                                          "nonempty,auto_unmount");
    CHECK(options.nonempty && options.auto_unmount && !options.block_device);
    CHECK(strcmp(options.fsname, "shelf") == 0);
    CHECK(strcmp(options.subtype, "book") == 0);
    CHECK(strcmp(options.parameters[MOUNT_DEFAULT_PERMISSIONS], "") == 0);
    CHECK(strcmp(options.parameters[MOUNT_ALLOW_OTHER], "") == 0);
    CHECK(strcmp(options.parameters[MOUNT_MAX_READ], "131072") == 0);
    CHECK(options.parameters[MOUNT_CONTEXT] == NULL);
    mount_options_free(&options);

    options = parsed("fsname=one,max_read=1,fsname=two,max_read=4294967295");
    CHECK(strcmp(options.fsname, "two") == 0);
    CHECK(strcmp(options.parameters[MOUNT_MAX_READ], "4294967295") == 0);
    mount_options_free(&options);

    options = parsed("blkdev,fsname=/dev/loop0,blksize=4096");
    CHECK(options.block_device);
    mount_options_free(&options);
}

static void test_source(void)
{
    struct mount_options options = parsed("fsname=shelf,subtype=book");
    CHECK(strcmp(mount_options_source(&options), "shelf") == 0);
    mount_options_free(&options);
    options = parsed("subtype=book");
    CHECK(strcmp(mount_options_source(&options), "book") == 0);
    mount_options_free(&options);
    options = parsed(NULL);
    CHECK(strcmp(mount_options_source(&options), "/dev/fuse") == 0);
}

static void check_fsname(const char *list, const char *fsname)
{
    struct mount_options options = parsed(list);
    if (strcmp(options.fsname, fsname) != 0)
        fprintf(stderr, "\"%s\": \"%s\"\n", list, options.fsname);
    CHECK(strcmp(options.fsname, fsname) == 0);
    CHECK(options.flags & MS_RDONLY);
    mount_options_free(&options);
}

static void test_escapes(void)
{
    check_fsname("fsname=a\\,b,ro", "a,b");
    check_fsname("fsname=a\\\\,ro", "a\\");
    check_fsname("fsname=a\\\\\\,b,ro", "a\\,b");
    check_fsname("fsname=a\\054b\\040c,ro", "a,b c");
    check_fsname("fsname=\\377,ro", "\377");
    check_fsname("fsname=\\477,ro", "477");
    check_fsname("fsname=a\\000,ro", "a000");
    check_fsname("fsname=a=b,ro", "a=b");
    check_fsname("fsname=\"a,b\",ro", "a,b");
    check_fsname("fsname=\"a\\\"b\",ro", "a\"b");
    check_fsname("fsname=a\"b,ro", "a\"b");
    check_fsname("ro,fsname=end\\", "end\\");
}

static void test_refused(void)
{
    check_refused("shelf", "unknown mount option \"shelf\"");
    check_refused("ro,shelf=3,rw", "unknown mount option \"shelf\"");
    check_refused("fsname=a,subtype=b,Ro", "unknown mount option \"Ro\"");
    check_refused("=3", "unknown mount option \"\"");
    check_refused("allow_root", "use allow_other");
    check_refused("fd=3", "\"fd\" is set by the library");
    check_refused("rootmode=40000", "\"rootmode\" is set by the library");
    check_refused("user_id=0", "\"user_id\" is set by the library");
    check_refused("group_id=0", "\"group_id\" is set by the library");
    check_refused("mand", "mand");
    check_refused("remount", "mount again");
    check_refused("max_read", "\"max_read\" needs a value");
    check_refused("max_read=", "\"max_read\" needs a value");
    check_refused("max_read=many", "\"max_read\" needs a number");
    check_refused("max_read=-1", "\"max_read\" needs a number");
    check_refused("max_read=4096k", "\"max_read\" needs a number");
    check_refused("max_read=4294967296", "\"max_read\" needs a number");
    check_refused("max_read=99999999999999999999", "\"max_read\" needs a number");
    check_refused("fsname=", "\"fsname\" needs a value");
    check_refused("subtype", "\"subtype\" needs a value");
    check_refused("ro=1", "\"ro\" takes no value");
    check_refused("allow_other=", "\"allow_other\" takes no value");
    check_refused("nonempty=yes", "\"nonempty\" takes no value");
    check_refused("context=\"a,b", "quotation does not end");
    check_refused("blkdev", "fsname=");
    check_refused("blksize=512", "\"blkdev\"");
}

static void check_text(char *text, const char *expected)
{
    CHECK(text != NULL);
    if (strcmp(text, expected) != 0)
        fprintf(stderr, "\"%s\"\n", text);
    CHECK(strcmp(text, expected) == 0);
    free(text);
}

static void test_written(void)
{
    char expected[256];
    struct mount_options options =
        parsed("allow_other,ro,max_read=8192,fsname=a\\,b\\\\c,subtype=s,context=\"u:c0,c1\"");
    snprintf(expected, sizeof expected,
             "fd=7,rootmode=40000,user_id=%u,group_id=%u,allow_other,max_read=8192,context=\"u:c0,c1\"",
             (unsigned)geteuid(), (unsigned)getegid());
    check_text(mount_options_data(&options, 7), expected);
    check_text(mount_options_for_fusermount(&options),
               "nosuid,nodev,ro,allow_other,max_read=8192,context=u:c0\\,c1,fsname=a\\,b\\\\c,subtype=s");
    mount_options_free(&options);

    options = parsed("suid,dev,noexec,sync,dirsync,noatime,default_permissions,auto_unmount,nonempty,x-other");
    check_text(mount_options_for_fusermount(&options),
               "suid,dev,noexec,sync,dirsync,noatime,default_permissions,auto_unmount");
    mount_options_free(&options);

    options = parsed("strictatime,nodiratime,lazytime,nosymfollow,blkdev,fsname=/dev/x");
    check_text(mount_options_for_fusermount(&options),
               "nosuid,nodev,nodiratime,strictatime,lazytime,nosymfollow,fsname=/dev/x,blkdev");
    mount_options_free(&options);
}

int main(void)
{
    test_flags();
    test_ignored();
    test_parameters();
    test_source();
    test_escapes();
    test_refused();
    test_written();
    return 0;
}
