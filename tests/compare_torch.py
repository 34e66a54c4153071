#!/usr/bin/env python3
"""Compare castor's gradients with PyTorch's at full size.

A random OPT is made, PyTorch computes its gradients in float64 (the truth) and in float32, castor in float32.
Castor passes when, for every parameter, its relative L2 error is at most twice that of PyTorch's float32.
With --gelu the error itself is bounded instead: without ReLU no unit can flip between two float32 programs, so
an absolute bound is meaningful.

Where a ReLU's input is nearer to zero than rounding, one float32 program or the other takes the wrong side, and that
one unit is then most of its error: which program is better is a matter of luck, a handful of units in 128 tokens. So
fc1's biases are moved by a few 1e-5 until no input of a ReLU is nearer to zero than --margin (0: leave them alone).

The true gradient of every k_proj.bias is zero (a softmax doesn't see a constant added to its row), so these are
judged by the L2 norm of the difference.

Needs torch, transformers, safetensors, numpy. Exit status: 0 pass, 1 fail.
"""
import argparse
import gc
import json
import os
import subprocess
import sys

import numpy as np

PRESETS = {  # layers, hidden, heads, ffn, word_embed_proj_dim, pre-layer-norm
    "125m": (12, 768, 12, 3072, 768, True),
    "350m": (24, 1024, 16, 4096, 512, False),
    "1.3b": (24, 2048, 32, 8192, 2048, True),
    "2.7b": (32, 2560, 32, 10240, 2560, True),
}
RATIO_MAX = 2.0
GELU_MAX = 3e-5
LOSS_MAX = 1e-5
# A result of float32 type is not expected to be nearer to the truth than half a unit in its last place.
FLOOR = 2.0**-24
ABSOLUTE_FLOOR = 1e-8


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--castor", default="./castor", help="the program")
    p.add_argument("--work", required=True, help="folder for model, tokens and gradients")
    p.add_argument("--config", default="350m", help="%s or a config.json" % ", ".join(PRESETS))
    p.add_argument("--tokens", type=int, default=128, help="tokens of each sequence")
    p.add_argument("--batch", type=int, default=1, help="sequences")
    p.add_argument("--margin", type=float, default=1e-5, help="distance of ReLU's inputs from zero; 0: as they come")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--gelu", action="store_true", help="GELU in place of ReLU, with a bound on the error itself")
    p.add_argument("--device", help="passed to castor")
    p.add_argument("--torch-device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--json", help="write every tensor's errors to this file")
    only = p.add_mutually_exclusive_group()
    only.add_argument("--make-only", action="store_true", help="model, tokens and PyTorch's gradients, no castor")
    only.add_argument("--compare-only", action="store_true", help="compare the files that are in the work folder")
    return p.parse_args()


def make_config(args):
    from transformers import OPTConfig

    name = args.config
    for prefix in ("facebook/", "opt-"):
        name = name.removeprefix(prefix)
    if name in PRESETS:
        layers, hidden, heads, ffn, embed, pre = PRESETS[name]
        config = OPTConfig(num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=heads, ffn_dim=ffn,
                           word_embed_proj_dim=embed, do_layer_norm_before=pre)
    else:
        config = OPTConfig.from_json_file(args.config)
    config.dropout = config.attention_dropout = config.layerdrop = 0.0
    config.architectures = ["OPTForCausalLM"]
    if args.gelu:
        config.activation_function = "gelu"
    if args.tokens > config.max_position_embeddings:
        sys.exit("--tokens %d: the model has %d positions" % (args.tokens, config.max_position_embeddings))
    return config


def make_model(args):
    """Write WORK/model and WORK/tokens.json."""
    import torch
    from safetensors.torch import save_file
    from transformers import OPTForCausalLM

    torch.manual_seed(args.seed)
    config = make_config(args)
    config.dtype = "float32"
    model = OPTForCausalLM(config).float()
    folder = os.path.join(args.work, "model")
    os.makedirs(folder, exist_ok=True)
    config.save_pretrained(folder)
    # named_parameters lists the tied head once
    save_file({n: p.detach().contiguous() for n, p in model.named_parameters()},
              os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    # 0 and 1 are <s> and <pad>: PyTorch gives the padding row no gradient from the input side
    rng = np.random.Generator(np.random.PCG64(args.seed))
    tokens = rng.integers(3, config.vocab_size, (args.batch, args.tokens))
    tokens[:, 0] = 2
    with open(os.path.join(args.work, "tokens.json"), "w") as f:
        json.dump(tokens.tolist(), f)
        f.write("\n")


def load_torch(args, dtype):
    import torch
    from safetensors import safe_open
    from transformers import OPTConfig, OPTForCausalLM

    folder = os.path.join(args.work, "model")
    config = OPTConfig.from_json_file(os.path.join(folder, "config.json"))
    with torch.device("meta"):
        # "eager" attention would compute its softmax in float32 even for a float64 model
        model = OPTForCausalLM._from_config(config, attn_implementation="sdpa")
    model = model.to(dtype).to_empty(device=args.torch_device).eval()
    model.tie_weights()
    with safe_open(os.path.join(folder, "model.safetensors"), "pt") as f, torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(f.get_tensor(name))
    return model


def keep_off_corners(args):
    """Move fc1's biases so that no input of a ReLU is within args.margin of zero, and write the model anew."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    model = load_torch(args, torch.float64)
    moved = [0]

    def hook(module, inputs, output):
        out = output.reshape(-1, output.shape[-1])
        bias = module.bias.data
        for unit in (out.abs().min(0).values < args.margin).nonzero().flatten().tolist():
            column, start = out[:, unit] - bias[unit], bias[unit].item()
            for step in range(1, 2000):  # try start + d, start - d for growing d
                d = (1 if step % 2 else -1) * ((step + 1) // 2) * 2 * args.margin
                value = torch.tensor(start + d, dtype=torch.float32, device=bias.device).double()
                if (column + value).abs().min() > 1.5 * args.margin:
                    break
            else:
                sys.exit("a ReLU can't be kept off its corner: too many tokens for this margin")
            bias[unit] = value
            moved[0] += 1
        return torch.nn.functional.linear(inputs[0], module.weight, bias)

    handles = [layer.fc1.register_forward_hook(hook) for layer in model.model.decoder.layers]
    with open(os.path.join(args.work, "tokens.json")) as f:
        ids = torch.tensor(json.load(f), device=args.torch_device)
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    for h in handles:
        h.remove()
    path = os.path.join(args.work, "model", "model.safetensors")
    with safe_open(path, "pt") as f:
        weights = {n: f.get_tensor(n) for n in f.keys()}
    for name, p in model.named_parameters():
        if name.endswith("fc1.bias"):
            weights[name] = p.detach().float().cpu()
    save_file(weights, path, metadata={"format": "pt"})
    print("%d of fc1's biases moved, so that no ReLU's input is within %g of zero" % (moved[0], args.margin), flush=True)


def torch_gradients(args, dtype, path):
    import torch
    import torch.nn.functional as F
    from safetensors.torch import save_file

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    model = load_torch(args, dtype)
    with open(os.path.join(args.work, "tokens.json")) as f:
        ids = torch.tensor(json.load(f), device=args.torch_device)
    logits = model(input_ids=ids, use_cache=False).logits
    assert logits.dtype == dtype
    # not the library's own loss: that one casts to float32
    loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
    del logits
    loss.backward()
    out = {"loss": loss.detach().cpu()}
    for name, p in model.named_parameters():
        out[name] = p.grad.cpu().contiguous()
        p.grad = None
    del model, loss
    save_file(out, path)
    del out
    gc.collect()
    if args.torch_device == "cuda":
        torch.cuda.empty_cache()


def run_castor(args, path):
    command = [args.castor, "grads", "--model", os.path.join(args.work, "model"),
               "--tokens-file", os.path.join(args.work, "tokens.json"), "--out", path]
    if args.device:
        command += ["--device", args.device]
    if os.path.exists(path):
        os.remove(path)  # never compare with what an earlier run left
    try:
        done = subprocess.run(command)
    except OSError as e:
        sys.exit("%s: %s" % (args.castor, e.strerror))
    if done.returncode:
        sys.exit("%s: exit status %d" % (" ".join(command), done.returncode))


def compare_tensor(name, truth, torch32, castor, gelu):
    """One row of the result."""
    truth, torch32, castor = (np.asarray(x, np.float64) for x in (truth, torch32, castor))
    row = dict(name=name, elements=int(truth.size), ok=False)
    if castor.shape != truth.shape:
        return dict(row, why="shape %s, wanted %s" % (castor.shape, truth.shape))
    if not np.isfinite(castor).all():
        return dict(row, why="not finite")
    norm = float(np.linalg.norm(truth))
    ours, theirs = float(np.linalg.norm(castor - truth)), float(np.linalg.norm(torch32 - truth))
    if name.endswith("k_proj.bias") or norm == 0:
        return dict(row, absolute=True, castor=ours, torch=theirs, ratio=ours / max(theirs, ABSOLUTE_FLOOR),
                    ok=ours <= max(RATIO_MAX * theirs, ABSOLUTE_FLOOR))
    ours, theirs = ours / norm, theirs / norm
    ratio = ours / max(theirs, FLOOR)
    return dict(row, absolute=False, castor=ours, torch=theirs, ratio=ratio,
                ok=ours <= GELU_MAX if gelu else ratio <= RATIO_MAX)


def compare(args, paths):
    from safetensors import safe_open

    with open(os.path.join(args.work, "model", "config.json")) as f:
        gelu = json.load(f)["activation_function"] == "gelu"
    with safe_open(paths["torch64"], "np") as f64, safe_open(paths["torch32"], "np") as f32, \
            safe_open(paths["castor"], "np") as ours:
        names, have = sorted(f64.keys()), set(ours.keys())
        rows = []
        for n in names:
            if n == "loss":
                continue
            if n not in have:
                rows.append(dict(name=n, ok=False, why="missing"))
                continue
            rows.append(compare_tensor(n, f64.get_tensor(n), f32.get_tensor(n), ours.get_tensor(n), gelu))
        rows += [dict(name=n, ok=False, why="no such parameter") for n in sorted(have - set(names))]
        loss = [float(np.asarray(f.get_tensor("loss")).reshape(())) if "loss" in f.keys() else float("nan")
                for f in (f64, f32, ours)]
    return gelu, rows, loss


def report(args, gelu, rows, loss):
    loss_error = abs(loss[2] - loss[0]) / abs(loss[0])
    loss_ok = loss_error <= LOSS_MAX  # false for a NaN
    ok = loss_ok and all(r["ok"] for r in rows)
    rank = "castor" if gelu else "ratio"
    # what failed comes first, then the largest
    rows.sort(key=lambda r: (r["ok"], "why" not in r, -r.get(rank, 0)))
    print("%-58s %10s %10s %7s" % ("5 worst of %d (relative L2 error; *: absolute)" % len(rows), "castor", "torch32",
                                    "ratio"))
    for r in rows[:5]:
        if "why" in r:
            print("%-58s %s" % (r["name"], r["why"]))
        else:
            print("%-58s %10.2e %10.2e %7.3f%s%s" % (r["name"], r["castor"], r["torch"], r["ratio"],
                                                     "*" if r["absolute"] else "", "" if r["ok"] else "  FAIL"))
    print("loss: float64 %.9f, torch32 %.9f, castor %.9f (relative error %.1e%s)"
          % (*loss, loss_error, "" if loss_ok else "  FAIL"))
    relative = [r["castor"] for r in rows if r.get("absolute") is False]
    rule = "error <= %g" % GELU_MAX if gelu else "ratio <= %g" % RATIO_MAX
    print("%s: %d tensors, %d wrong; largest relative error %.2e; rule: %s"
          % ("PASS" if ok else "FAIL", len(rows), sum(not r["ok"] for r in rows), max(relative, default=0), rule))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(dict(passed=ok, gelu=gelu, rule=rule, loss=dict(zip(("float64", "torch32", "castor"), loss)),
                           tensors=rows), f, indent=1)
            f.write("\n")
    return ok


def main():
    args = options()
    os.makedirs(args.work, exist_ok=True)
    paths = {k: os.path.join(args.work, k + ".safetensors") for k in ("torch64", "torch32", "castor")}
    if not args.compare_only:
        import torch

        make_model(args)
        gc.collect()
        if args.margin > 0 and not args.gelu:
            keep_off_corners(args)
            gc.collect()
        torch_gradients(args, torch.float64, paths["torch64"])
        torch_gradients(args, torch.float32, paths["torch32"])
        if args.make_only:
            return 0
        run_castor(args, paths["castor"])
    return 0 if report(args, *compare(args, paths)) else 1


if __name__ == "__main__":
    sys.exit(main())
