#include "database_users.h"

enum { USER_EXISTS = 51003 /* MongoDB's error code */ };

bool database_user_make(mongoc_client_t *c, const struct health_user *u, bson_error_t *be)
{
    const char *verbs[] = {"createUser", "updateUser"};
    for (int i = 0; i < 2; i++) {
        bson_t *cmd = BCON_NEW(verbs[i], BCON_UTF8(u->name), "pwd", BCON_UTF8(u->password), "roles", "[", "{", "role",
                               BCON_UTF8("readWrite"), "db", BCON_UTF8(u->database), "}", "]");
        bool ok = mongoc_client_command_simple(c, u->database, cmd, NULL, NULL, be);
        bson_destroy(cmd);
        if (ok)
            return true;
        if (i == 0 && be->code != USER_EXISTS)
            return false;
    }
    return false;
}

void database_user_make_admin(mongoc_client_t *c, const char *name, const char *password)
{
    bson_t *cmd = BCON_NEW("createUser", BCON_UTF8(name), "pwd", BCON_UTF8(password), "roles", "[", "{", "role", BCON_UTF8("root"),
                           "db", BCON_UTF8("admin"), "}", "]");
    mongoc_client_command_simple(c, "admin", cmd, NULL, NULL, NULL);
    bson_destroy(cmd);
}
