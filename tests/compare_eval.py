#!/usr/bin/env python3
"""Hold castor eval and castor generate against PyTorch.

A random OPT is made and trained lightly by castor on a text, so that its losses differ from token to token; PyTorch then
computes the perplexity of another text's tokens in the loop of Hugging Face's guide ("Perplexity of fixed-length models"), for
each pair of --windows, and transformers' greedy generate() goes on with a few of the tokens. castor passes when perplexity and
mean loss agree within 1e-4 relative, every token's loss within 1e-3 (1 + loss), and the generated ids are the same, with and
without cache, as far as PyTorch's own float32 is sure of them (the two likeliest logits differ by more than 1e-3).

Needs torch, transformers, numpy. Exit status: 0 pass, 1 fail.
"""
import argparse
import json
import math
import os
import subprocess
import sys

import torch
from transformers import OPTForCausalLM

PERPLEXITY_MAX, TOKEN_MAX, SURE = 1e-4, 1e-3, 1e-3


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--castor", default="./castor", help="the program")
    p.add_argument("--work", required=True, help="folder for the model")
    p.add_argument("--config", default="opt-125m", help="name or config.json")
    p.add_argument("--model", help="a folder with a model, instead of training one")
    p.add_argument("--train", default="data/sample/wiki.train.raw")
    p.add_argument("--text", default="data/sample/wiki.test.raw")
    p.add_argument("--tokenizer", default="bytes")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--windows", nargs="+", default=["2048,2048", "512,200"], metavar="LENGTH,STRIDE")
    p.add_argument("--max-tokens", type=int, default=40, help="0: no generation")
    p.add_argument("--device", help="passed to castor")
    return p.parse_args()


def castor(args, *words):
    command = [args.castor, *words, *(["--device", args.device] if args.device else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("%s: exit status %d" % (" ".join(command), done.returncode))
    return done.stdout


def guide(model, ids, length, stride):
    """Sum of losses, number of tokens, loss of each token (None: not predicted)."""
    losses, previous = [None] * len(ids), 0
    for begin in range(0, len(ids), stride):
        end = min(begin + length, len(ids))
        block = torch.tensor([ids[begin:end]])
        with torch.no_grad():
            logits = model(block, use_cache=False).logits[0, :-1].float()
        each = torch.nn.functional.cross_entropy(logits, block[0, 1:], reduction="none")
        for t in range(max(previous, begin + 1), end):
            losses[t] = each[t - begin - 1].item()
        previous = end
        if end == len(ids):
            break
    known = [x for x in losses if x is not None]
    return math.fsum(known), len(known), losses


def compare_perplexity(args, folder, model, length, stride):
    got = json.loads(castor(args, "eval", "--model", folder, "--text", args.text, "--tokenizer", args.tokenizer, "--length", str(length),
                            "--stride", str(stride), "--json", "--quiet"))
    total, count, losses = guide(model, got["ids"], length, stride)
    want = math.exp(total / count)
    relative = abs(got["perplexity"] / want - 1)
    worst = max(abs(a - b) / (1 + b) for a, b in zip(got["losses"], losses) if b is not None)
    same = [x is None for x in got["losses"]] == [x is None for x in losses] and got["tokens"] == count
    ok = relative <= PERPLEXITY_MAX and worst <= TOKEN_MAX and same
    print("%s: length %d, stride %d, %d of %d tokens: castor %.6f, PyTorch %.6f (relative %.1e; worst token %.1e%s)"
          % ("PASS" if ok else "FAIL", length, stride, count, len(losses), got["perplexity"], want, relative, worst,
             "" if same else "; other tokens are predicted"))
    return ok


def compare_text(args, folder, model, prompt):
    ok = True
    texts = [json.loads(castor(args, "generate", "--model", folder, "--tokenizer", args.tokenizer, "--prompt", prompt, "--max-tokens",
                               str(args.max_tokens), "--json", "--quiet", *more)) for more in ([], ["--no-cache"])]
    ids, ours = texts[0]["prompt_ids"], texts[0]["ids"]
    with torch.no_grad():
        out = model.generate(torch.tensor([ids]), max_new_tokens=args.max_tokens, do_sample=False, eos_token_id=2, pad_token_id=1,
                             attention_mask=torch.ones(1, len(ids), dtype=torch.long))[0]
        top = model(out[None], use_cache=False).logits[0, len(ids) - 1:-1].topk(2).values
    theirs, margin = out[len(ids):].tolist(), (top[:, 0] - top[:, 1]).tolist()
    sure = next((i for i, m in enumerate(margin) if m <= SURE), len(theirs))
    for name, t in (("cached", ours), ("without cache", texts[1]["ids"])):
        good = t[:sure] == theirs[:sure] and sure >= min(8, len(theirs))
        print("%s: %s: %d prompt tokens, %d generated, the first %d compared" % ("PASS" if good else "FAIL", name, len(ids), len(t), sure))
        ok = ok and good
    return ok


def main():
    args = options()
    folder = args.model or os.path.join(args.work, "model")
    if not args.model:
        castor(args, "train", "--config", args.config, "--train", args.train, "--tokenizer", args.tokenizer, "--batch", "2", "--seq", "128",
               "--steps", str(args.steps), "--lr", "1e-3", "--dropout", "0", "--eval-every", "0", "--out", folder, "--quiet")
    model = OPTForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()
    ok = True
    for pair in args.windows:
        length, stride = map(int, pair.split(","))
        ok = compare_perplexity(args, folder, model, length, stride) and ok
    if args.max_tokens:
        with open(args.text) as f:
            text = f.read()
        for n in (1, 40, 700):
            ok = compare_text(args, folder, model, text[100:100 + n]) and ok
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
