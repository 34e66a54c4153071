#!/usr/bin/env python3
"""Run a notebook's cells in this process and write it with their outputs. Needs Python alone, no Jupyter.

    bench/execute_notebook.py bench/castor_opt.ipynb --out executed.ipynb

As in Jupyter: what a cell prints is kept as a stream; the value of an expression that ends a cell is shown, by its _repr_html_ or
_repr_png_ where it has one, else by repr. The first cell that fails ends the run: its error is in the file, the exit status is 1.
IPython's magics (% and !) aren't known.
"""
import argparse
import ast
import base64
import contextlib
import io
import json
import sys
import traceback


class Streams:
    """stdout and stderr of a cell, in the order they were written."""

    def __init__(self, outputs):
        self.outputs = outputs

    def named(self, name, also):
        streams = self

        class Stream(io.TextIOBase):
            def write(self, text):
                also.write(text)
                also.flush()
                last = streams.outputs[-1] if streams.outputs else {}
                if last.get("output_type") != "stream" or last["name"] != name:
                    last = dict(output_type="stream", name=name, text=[])
                    streams.outputs.append(last)
                last["text"] = "".join(last["text"] + [text]).splitlines(keepends=True)
                return len(text)

        return Stream()


def shown(value):
    data = {"text/plain": [repr(value)]}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(keepends=True)
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return data


def run_cell(cell, number, scope):
    """Fill the cell's outputs; False when it failed."""
    outputs = cell["outputs"] = []
    cell["execution_count"] = number
    streams = Streams(outputs)
    source = "".join(cell["source"])
    try:
        with contextlib.redirect_stdout(streams.named("stdout", sys.stdout)), contextlib.redirect_stderr(streams.named("stderr", sys.stderr)):
            tree = ast.parse(source)
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "cell %d" % number, "exec"), scope)
            value = eval(compile(ast.Expression(last.value), "cell %d" % number, "eval"), scope) if last else None
            if value is not None:
                outputs.append(dict(output_type="execute_result", execution_count=number, metadata={}, data=shown(value)))
        return True
    except BaseException as e:  # SystemExit and KeyboardInterrupt end a notebook, too
        trace = traceback.format_exc().splitlines()
        outputs.append(dict(output_type="error", ename=type(e).__name__, evalue=str(e), traceback=trace))
        print("\n".join(trace), file=sys.stderr)
        return False


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("notebook")
    p.add_argument("--out", required=True)
    args = p.parse_args()
    with open(args.notebook) as f:
        book = json.load(f)
    cells = [c for c in book["cells"] if c["cell_type"] == "code"]
    for cell in cells:
        cell.update(outputs=[], execution_count=None)
    scope, good = {"__name__": "__main__"}, True
    for number, cell in enumerate(cells, 1):
        good = run_cell(cell, number, scope)
        if not good:
            break
    with open(args.out, "w") as f:
        json.dump(book, f, indent=1, ensure_ascii=False)
        f.write("\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
