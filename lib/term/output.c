#include "output.h"
#include "args.h"
#include "table.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

const char *output_take(int *argc, char **argv, bool lists, bool *ret_json, bool *ret_csv)
{
    static char why[160];
    const char *output = args_opt(argc, argv, "--output");
    *ret_json = args_flag(argc, argv, "--json");
    *ret_csv = false;
    text_fold(!*ret_json);
    if (!output)
        return NULL;
    const bool wide = !strcmp(output, "wide"), table = !strcmp(output, "table"), json = !strcmp(output, "json"),
               csv = !strcmp(output, "csv");
    if (!wide && !table && !json && !csv)
        snprintf(why, sizeof why, "--output is table, wide, json or csv, and not \"%.40s\"", output);
    else if (*ret_json && !json)
        snprintf(why, sizeof why, "--json and --output %s cannot both be", output);
    else if (csv && !lists)
        snprintf(why, sizeof why, "--output csv is for verbs that list rows; this one takes json");
    else
        why[0] = 0;
    if (why[0])
        return why;
    text_fold(table);
    *ret_json = json;
    *ret_csv = csv;
    table_set_style(csv ? TABLE_CSV : wide ? TABLE_WIDE : TABLE_FIT);
    return NULL;
}
