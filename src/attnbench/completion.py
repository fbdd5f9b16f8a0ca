"""Command that prints a shell script for completion: attnbench completion bash|zsh|fish."""

from __future__ import annotations

if __name__ == "__main__":
    from attnbench.process import early  # noqa: F401  # before imports that take half a second

import argparse
from collections.abc import Sequence

from attnbench.process.commands import COMMANDS
from attnbench.process.output import exit_process, make_command

# The shells call `attnbench completion words LINE`, where LINE ends at the cursor. Bash splits words at = and :, so the
# text before the last of these is removed from each candidate.
_BASH = r"""_attnbench() {
  local IFS=$'\n' line="${COMP_LINE:0:$COMP_POINT}"
  local word="${line##*[[:space:]]}"
  local before="${word%"${word##*[=:]}"}"
  COMPREPLY=($(attnbench completion words "$line" 2>/dev/null))
  COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
complete -o nospace -o bashdefault -o default -F _attnbench attnbench
"""
_ZSH = r"""_attnbench() {
  local line="${BUFFER[1,$CURSOR]}"
  local -a candidates
  candidates=("${(@f)$(attnbench completion words "$line" 2>/dev/null)}")
  candidates=("${(@)candidates:#}")
  if (( $#candidates )); then compadd -Q -S '' -- "${candidates[@]}"; else _files; fi
}
autoload -Uz compinit && compinit
compdef _attnbench attnbench
"""
_FISH = r"""complete -c attnbench -f -a '(attnbench completion words (commandline -cp | string collect) | string trim)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_USAGE = """Print a script that completes commands, config groups and config keys.
  bash: attnbench completion bash >> ~/.bashrc
  zsh:  attnbench completion zsh >> ~/.zshrc
  fish: attnbench completion fish > ~/.config/fish/completions/attnbench.fish"""


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Print the script of a shell, or the words that may complete a line.

    Args:
        argv: arguments; None: those of the process.

    Returns:
        Exit status.
    """
    parser = argparse.ArgumentParser(
        prog="attnbench completion", description=_USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shell", choices=[*SCRIPTS, "words"], help="the shell; words: for use by the scripts")
    parser.add_argument("line", nargs="?", default="", help="words: the command line up to the cursor")
    arguments = parser.parse_args(argv)
    if arguments.shell == "words":
        print("\n".join(complete_line(arguments.line)))
    else:
        print(SCRIPTS[arguments.shell], end="")
    return 0


def complete_line(line: str) -> list[str]:
    """List the words that may stand at the end of a command line.

    Args:
        line: command line up to the cursor, with the name of the program.

    Returns:
        Whole words; a space follows where the word is complete. Empty if file names should be completed.
    """
    _, *words = f"{line}|".split()  # the bar marks a last word that is still empty
    last = words.pop()[:-1] if words else ""
    if not words:
        return [f"{verb} " for verb in COMMANDS if verb.startswith(last)]
    if words[0] not in ("train", "sweep") or last.startswith("-"):
        return []
    from attnbench.sweeps.compose import Composer  # imports Hydra, which takes half a second

    given = [word for word in words[1:] if not word.startswith("-")]
    if words[0] == "sweep" and not given:
        return [f"{name} " for name in Composer().list_options("sweep") if name.startswith(last)]
    if words[0] == "sweep":
        given[0] = f"sweep={given[0]}"
    return Composer().complete_override(given, last)


if __name__ == "__main__":
    exit_process(main())
