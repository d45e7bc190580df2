#include "problem.h"

#include <stddef.h>
#include <string.h>

static const struct problem {
    const char *code;
    unsigned status;
    const char *title;
} problems[] = {
    {"bad_request", 400, "The request is malformed"},
    {"unauthorized", 401, "Who are you?"},
    {"forbidden", 403, "Your role or token does not allow this"},
    {"not_found", 404, "There is nothing here that you may see"},
    {"method_not_allowed", 405, "This resource has no such method"},
    {"not_acceptable", 406, "There is no such representation"},
    {"timeout", 408, "The request came too slowly"},
    {"parameter", 400, "A parameter is none, or is out of its range"},
    {"query", 400, "There is no such question"},
    {"usage", 400, "The request is malformed"},
    {"not_kept", 410, "That was deleted by age"},
    {"state", 409, "The state of this resource does not allow that"},
    {"conflict", 409, "The state of this resource does not allow that now"},
    {"not_managed", 409, "The platform does not start instances of this app"},
    {"no_args", 422, "This app takes no arguments from here"},
    {"max_instances", 409, "As many instances as the agreement allows are there"},
    {"agreement", 422, "The agreement does not allow that"},
    {"app_stopped", 409, "The app is stopped"},
    {"stopped", 409, "It was stopped"},
    {"tus_version", 412, "This version of the tus protocol is not spoken here"},
    {"checksum", 460, "The bytes do not have the checksum that was said"},
    {"length_required", 411, "The length has to be said"},
    {"too_large", 413, "The request is too large"},
    {"max_file_bytes", 413, "The file is larger than the agreement allows"},
    {"unsupported_media_type", 415, "The content is of a type that is not taken here"},
    {"digest", 422, "The content does not have the digest that was said"},
    {"format", 422, "The agreement does not have files of this format"},
    {"formats", 422, "The agreement does not have files of this format"},
    {"valid_formats", 422, "The agreement does not have files of this format"},
    {"idempotency_key", 422, "The key was used for something else, or is none"},
    {"name", 422, "This is no file name"},
    {"no_app", 422, "There is no such app"},
    {"configuration", 422, "The configuration has errors"},
    {"precondition", 412, "It was changed meanwhile"},
    {"archive", 422, "This is neither an executable nor an archive that is taken"},
    {"no_exec", 422, "The version lacks what the app executes"},
    {"requirements", 422, "What requirements.txt names cannot be installed"},
    {"max_app_bytes", 413, "The version is larger than the agreement allows"},
    {"max_app_files", 422, "The version has more files than the agreement allows"},
    {"in_use", 409, "Runs use this version"},
    {"max_app_versions", 409, "As many versions as the agreement allows are there"},
    {"max_app_build_s", 422, "Looking at the version took longer than the agreement allows"},
    {"not_allowed", 403, "The agreement does not let you change this"},
    {"no_dataset", 404, "There is no such dataset"},
    {"unprocessable", 422, "What was asked makes no sense"},
    {"max_files_per_day", 429, "As many files as the agreement allows in a day are there"},
    {"max_bytes_per_day", 429, "As many bytes as the agreement allows in a day are there"},
    {"size", 413, "A message is larger than the stream takes"},
    {"full", 507, "The stream has no room now"},
    {"busy", 503, "More is under way than is taken at once"},
    {"max_files_in_staging", 429, "As many files as the agreement allows wait already"},
    {"slowed", 429, "Many files of this tenant were refused; it is slowed down"},
    {"rate", 429, "Too many requests"},
    {"quota", 429, "A quota of the agreement is used up"},
    {"slow_down", 429, "Too many failed attempts to log in"},
    {"event_streams", 429, "Too many streams of events are open"},
    {"uploads", 429, "Too many uploads are in flight"},
    {"header_too_large", 431, "The header is too large"},
    {"uri_too_long", 414, "The target is too long"},
    {"http_version", 505, "This version of HTTP is not spoken here"},
    {"moved", 403, "The tenant is served elsewhere now"},
    {"moving", 503, "The tenant is being moved"},
    {"suspended", 403, "The tenant is suspended"},
    {"internal", 500, "The gateway made a mistake"},
    {"spool", 503, "The upload was not found where it was kept; send it again"},
    {"unavailable", 503, "A part of the platform does not answer"},
    {"draining", 503, "The platform is going down"},
    {"disk_low", 507, "The platform has no room for files now"},
    {"ledger", 503, "The ledger cannot be written now"},
};

static const struct problem *find(const char *code)
{
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        if (!strcmp(problems[i].code, code))
            return &problems[i];
    return NULL;
}

unsigned problem_status(const char *code)
{
    const struct problem *p = find(code);
    return p ? p->status : 500;
}

void problem_write(struct buf *out, const char *code, const char *detail, const char *request_id)
{
    const struct problem *p = find(code);
    json_begin(out, NULL, '{');
    json_str(out, "type", "about:blank");
    json_str(out, "title", p ? p->title : code);
    json_i64(out, "status", p ? p->status : 500);
    json_str(out, "detail", detail);
    json_str(out, "code", code);
    json_str(out, "request_id", request_id);
    json_end(out, '}');
}
