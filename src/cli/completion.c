/* The script behind `castor completion bash`. It needs bash only, not the bash-completion package. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* The words that may stand first, or second after `first`, each once. */
static void print_words(const cst_command *list, size_t n, const char *first)
{
    for (size_t i = 0; i < n; i++) {
        if (first && list[i].words[1] && !strcmp(list[i].words[0], first)) printf("%s ", list[i].words[1]);
        if (!first && (!i || strcmp(list[i].words[0], list[i - 1].words[0]))) printf("%s ", list[i].words[0]);
    }
}

static void print_commands(const cst_command *list, size_t n)
{
    printf("    if ((COMP_CWORD == 1)); then\n        COMPREPLY=($(compgen -W \"");
    print_words(list, n, NULL);
    printf("help --help --version\" -- \"$cur\"))\n        return\n    fi\n");
    printf("    if ((COMP_CWORD == 2)); then\n        case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < n; i++) {
        if (!list[i].words[1] || (i && !strcmp(list[i].words[0], list[i - 1].words[0]))) continue;
        printf("        %s)\n            COMPREPLY=($(compgen -W \"", list[i].words[0]);
        print_words(list, n, list[i].words[0]);
        printf("\" -- \"$cur\"))\n            return ;;\n");
    }
    printf("        esac\n    fi\n");
}

void cst_print_completion(const cst_command *list, size_t n)
{
    printf("# bash completion for castor, written by `castor completion bash`.\n"
           "# Copy it to ~/.local/share/bash-completion/completions/castor, or: source <(castor completion bash)\n"
           "_castor()\n{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]} options= value= words= paths= operand=\n"
           "    COMPREPLY=()\n"
           "    if [[ $cur == = ]]; then cur= # --name=VALUE is three words to bash\n"
           "    elif [[ $option == = ]]; then option=${COMP_WORDS[COMP_CWORD-2]}\n"
           "    fi\n");
    print_commands(list, n);
    printf("    case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    for (size_t i = 0; i < n; i++) {
        const cst_command *c = &list[i];
        printf("    \"%s \"%s%s)\n", c->words[0], c->words[1] ? c->words[1] : "*", c->words[1] ? "*" : "");
        cst_args_completion(stdout, c->bit);
        if (c->bit & IN_OPERAND) printf("        operand=%s\n", strstr(c->usage, "FILE") ? "-f" : "-d");
        printf("        ;;\n");
    }
    printf("    esac\n"
           "    if [[ $value ]]; then\n"
           "        COMPREPLY=($(compgen ${paths:+$paths} -W \"$words\" -- \"$cur\"))\n"
           "        [[ $paths ]] && compopt -o filenames 2>/dev/null\n"
           "    elif [[ $cur == -* || ! $operand ]]; then\n"
           "        COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))\n"
           "    else\n"
           "        COMPREPLY=($(compgen $operand -- \"$cur\"))\n"
           "        compopt -o filenames 2>/dev/null\n"
           "    fi\n"
           "}\n"
           "complete -F _castor castor\n");
}
