/* mysimbdp completion SHELL: the script that a shell loads. The scripts know no verb: they ask `mysimbdp completion words` for what
 * may follow (completion.h), so that they never fall behind the program. What it says are words that a shell takes as they are, and
 * none of it is evaluated. */
#include "cli.h"

#include <stdio.h>
#include <string.h>

/* bash breaks words at = and :, so the = of --name=value is left out: that is read as well. */
static const char bash[] = "# shellcheck shell=bash\n"
                           "# Completion of mysimbdp for bash: made by `mysimbdp completion bash`.\n"
                           "_mysimbdp() {\n"
                           "    local word line i words=()\n"
                           "    COMPREPLY=()\n"
                           "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
                           "        word=${COMP_WORDS[i]}\n"
                           "        [[ $i -lt $COMP_CWORD && $word == = ]] || words+=(\"${word/#\\~\\//$HOME/}\")\n"
                           "    done\n"
                           "    i=$((${#words[@]} - 1))\n"
                           "    [[ ${words[i]} == = ]] && words[i]=\n"
                           "    while IFS= read -r line; do\n"
                           "        if [[ $line == :files ]]; then\n"
                           "            compopt -o default -o bashdefault\n"
                           "        else\n"
                           "            COMPREPLY+=(\"${line%%$'\\t'*}\")\n"
                           "        fi\n"
                           "    done < <(\"${1/#\\~\\//$HOME/}\" completion words -- \"${words[@]}\" 2>/dev/null)\n"
                           "    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace\n"
                           "    return 0\n"
                           "}\n"
                           "complete -F _mysimbdp mysimbdp\n";

static const char zsh[] = "#compdef mysimbdp\n"
                          "# Completion of mysimbdp for zsh: made by `mysimbdp completion zsh`.\n"
                          "_mysimbdp() {\n"
                          "    local line file\n"
                          "    local -a typed values shown parts part_values\n"
                          "    typed=(\"${(@)words[2,CURRENT]}\")\n"
                          "    while IFS= read -r line; do\n"
                          "        if [[ $line == :files ]]; then\n"
                          "            file=1\n"
                          "        elif [[ ${line%%$'\\t'*} == */ ]]; then\n"
                          "            part_values+=(\"${line%%$'\\t'*}\")\n"
                          "        else\n"
                          "            values+=(\"${line%%$'\\t'*}\")\n"
                          "            shown+=(\"${line%%$'\\t'*}  ${line#*$'\\t'}\")\n"
                          "        fi\n"
                          "    done < <(${(Q)words[1]/#\\~\\//$HOME/} completion words -- \"${(@Q)typed}\" 2>/dev/null)\n"
                          "    (( ${#values} )) && compadd -l -d shown -a values\n"
                          "    (( ${#part_values} )) && compadd -S '' -a part_values\n"
                          "    [[ -n $file ]] && _files\n"
                          "    (( ${#values} + ${#part_values} ))\n"
                          "}\n"
                          "if [[ ${funcstack[1]} == _mysimbdp ]]; then\n"
                          "    _mysimbdp \"$@\"\n"
                          "elif (( ${+functions[compdef]} )); then\n"
                          "    compdef _mysimbdp mysimbdp\n"
                          "fi\n";

static const char fish[] = "# Completion of mysimbdp for fish: made by `mysimbdp completion fish`.\n"
                           "function __mysimbdp_words\n"
                           "    set -l typed (commandline -opc)\n"
                           "    set -l word (commandline -ct)\n"
                           "    set -l program (string replace -r '^~/' \"$HOME/\" -- $typed[1])\n"
                           "    set -e typed[1]\n"
                           "    for line in (command $program completion words -- $typed \"$word\" 2>/dev/null)\n"
                           "        if test \"$line\" = :files\n"
                           "            __fish_complete_path \"$word\"\n"
                           "        else\n"
                           "            echo $line\n"
                           "        end\n"
                           "    end\n"
                           "end\n"
                           "complete -c mysimbdp -f -a '(__mysimbdp_words)'\n";

int verb_completion(struct cli *c)
{
    static const struct {
        const char *name, *script;
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    int r = cli_args(c, 1, 1);
    if (r)
        return r;
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (!strcmp(c->argv[0], shells[i].name))
            return fputs(shells[i].script, stdout) < 0 ? CLI_FAILED : CLI_DONE;
    return cli_usage(c, "there are scripts for bash, zsh and fish, and none for %s", c->argv[0]);
}
