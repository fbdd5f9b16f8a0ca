"""Command that translates stdin or a file with a trained checkpoint.

Python -m attnbench.translate CHECKPOINT < in > out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.config.task import MAX_BEAM_SIZE
from attnbench.process.output import exit_process, is_stdin_closed, make_command, protect_output

if TYPE_CHECKING:
    import torch

    from attnbench.tasks.translation import Translation


@make_command(is_output_result=True)
def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    args = _build_parser().parse_intermixed_args(argv)
    protect_output("utf-8")  # sentences are UTF-8 in files, and so in pipes, whatever the locale
    try:
        from attnbench.process import lightning_import  # noqa: F401

        task = load_translation(
            args.checkpoint, args.device
        )  # first, so that a wrong checkpoint is reported before text is typed
        lines = _read_lines(args.input)
        references = None if args.references is None else _read_lines(args.references)
        if references is not None and len(references) != len(lines):
            raise ValueError(f"{args.references}: {len(references)} lines for {len(lines)} sentences")
        hypotheses = translate_lines(task, lines, beam_size=args.beam_size, moses=args.moses, pictures=args.pictures)
    except Exception as error:
        if not _is_user_error(error):
            raise
        print(f"attnbench: {error}", file=sys.stderr)
        return 2
    for number, hypothesis in enumerate(hypotheses):
        print(
            hypothesis
            if references is None
            else f"{hypothesis}\t{_format_bleu(hypothesis, references[number], args.k)}"
        )
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attnbench translate", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="model.ckpt of a run, or the run's folder")
    parser.add_argument("input", nargs="?", default="-", help="a file of sentences, a line each; - or nothing: stdin")
    parser.add_argument(
        "--beam-size", type=_build_count_type(MAX_BEAM_SIZE), help="1: greedy; default: as the run was tested"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default: cpu)")
    parser.add_argument(
        "--moses",
        metavar="LANG",
        nargs=2,
        help="ordinary text in and out, for a model of tokenized text: en de",
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw what each translation attends to, as PNG")
    parser.add_argument("--references", help="a file of references; adds a column of sentence BLEU as d2l.ai has it")
    parser.add_argument("--k", type=_build_count_type(100), default=2, help="longest n-gram of that BLEU (default: 2)")
    return parser


def _build_count_type(most: int) -> Callable[[str], int]:
    """Build the type of an argument that is a whole number from 1 to `most`."""

    def parse_count(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = 0
        if not 1 <= number <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {most}, not {text!r}")
        return number

    return parse_count


def _is_user_error(error: Exception) -> bool:
    from attnbench.config import ConfigError
    from attnbench.data.errors import DataError
    from attnbench.tasks.build import CheckpointError

    return isinstance(error, (OSError, UnicodeDecodeError, ValueError, ConfigError, DataError, CheckpointError))


def _read_lines(name: str) -> list[str]:
    """Read the lines of a file, or of stdin for `-`: UTF-8 whatever the locale, and the same line ends for both."""
    from attnbench.data.errors import DataError
    from attnbench.data.text_files import decode_utf8, read_lines, split_lines

    if name != "-":
        return read_lines(Path(name))
    if is_stdin_closed():
        raise DataError("stdin: closed; expected sentences there, or a file")
    binary = getattr(sys.stdin, "buffer", None)  # a replaced stdin may be text alone
    return split_lines(sys.stdin.read() if binary is None else decode_utf8(binary.read(), "stdin"))


def _format_bleu(hypothesis: str, reference: str, k: int) -> str:
    from attnbench.metrics.text import compute_bleu_k

    return f"{compute_bleu_k(hypothesis, reference, k):.3f}"


def load_translation(path: Path, device: str) -> Translation:
    """Load the translation task from a checkpoint file or a run's folder."""
    from attnbench.tasks.build import CheckpointError, load_task
    from attnbench.tasks.translation import Translation

    chosen = _find_device(device)
    file = path / "model.ckpt" if path.is_dir() else path
    task = load_task(file)
    if not isinstance(task, Translation):
        raise CheckpointError(f"{file}: a checkpoint of task {task.config.task.family}, not of translation")
    return task.to(chosen)


def _find_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        ValueError: this machine does not have it, or there is no such name.
    """
    import torch

    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    known = ["cpu", *(["cuda", *gpus] if gpus else []), *(["mps"] if torch.backends.mps.is_available() else [])]
    if name not in known:
        raise ValueError(f"--device {name}: expected one of {', '.join(known)}, which are what this machine has")
    return torch.device(name)


def translate_lines(
    task: Translation,
    lines: list[str],
    *,
    beam_size: int | None = None,
    moses: Sequence[str] | None = None,
    pictures: Path | None = None,
) -> list[str]:
    """Translate lines, in order; an empty line stays empty.

    Args:
        task: trained task.
        lines: source sentences.
        beam_size: None: the beam size of the run's test.
        moses: source and target language of ordinary text, which is tokenized before and detokenized after
            translation.
        pictures: folder for attention maps `cross-0.png`, ..., numbered by line.
    """
    import torch

    from attnbench.data.tokenizer import PAD
    from attnbench.metrics.text import detokenize, tokenize

    beams = beam_size or task.task_config.beam_size
    if moses:
        lines = [line.lower() for line in tokenize(lines, moses[0])]
    found = [""] * len(lines)
    with torch.inference_mode():
        for numbers, source_BS in build_batches(task, lines, beams):
            decoded = task.decode(source_BS.to(task.device), beams)
            for number, source, ids in zip(numbers, source_BS.tolist(), decoded, strict=True):
                found[number] = task.codec.target.decode(ids)
                if pictures is not None:
                    real = [token for token in source if token != PAD]
                    for picture in task.build_attention_maps(number, real, ids):
                        picture.save(pictures / f"{picture.name}.png")
    return detokenize(found, moses[1]) if moses else found


def build_batches(task: Translation, lines: list[str], beam_size: int) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Yield line numbers and source_BS of batches with lines of similar length.

    A batch has at most `decode_tokens` tokens x beams.
    """
    import numpy as np
    import torch

    from attnbench.data.text_files import is_blank

    encoded = task.codec.encode_source(lines)
    lengths_N = encoded.lengths_N
    full_N = np.array([not is_blank(line) for line in lines], dtype=bool)
    order_N = np.argsort(-lengths_N, kind="stable")
    order_N = order_N[full_N[order_N]]
    start = 0
    while start < len(order_N):
        size = max(1, task.task_config.decode_tokens // (int(lengths_N[order_N[start]]) * beam_size))
        numbers = order_N[start : start + size]
        start += size
        yield numbers.tolist(), torch.from_numpy(encoded.pad_rows(numbers))


if __name__ == "__main__":
    exit_process(main())
