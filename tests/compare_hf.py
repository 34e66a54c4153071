#!/usr/bin/env python3
"""Hold castor against transformers on Hugging Face folders, both ways.

In: transformers makes random tiny OPTs (post-layer-norm with projections like OPT-350M, and pre-layer-norm) and saves them
in every form: safetensors, sharded safetensors, pytorch_model.bin; f32, f16, bf16; with the head stored or not; names
with and without their prefixes. castor loads each; its logits and transformers' must agree.
Out: castor trains each model for a few steps and saves it; transformers must load the folder as it is (no missing and no
unexpected tensor), and the logits must agree again.

Needs torch, transformers, safetensors, numpy. Exit status: 0 pass, 1 fail.
"""
import argparse
import collections
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, GenerationConfig, OPTConfig, OPTForCausalLM

LOGITS_MAX = 1e-4
MODELS = {
    "post": dict(vocab_size=97, hidden_size=48, num_hidden_layers=3, ffn_dim=96, num_attention_heads=4, max_position_embeddings=24,
                 word_embed_proj_dim=24, do_layer_norm_before=False),
    "pre": dict(vocab_size=101, hidden_size=40, num_hidden_layers=2, ffn_dim=80, num_attention_heads=5, max_position_embeddings=20,
                word_embed_proj_dim=40, do_layer_norm_before=True),
}


def save_safetensors(model, folder):
    model.save_pretrained(folder)


def save_sharded(model, folder):
    model.save_pretrained(folder, max_shard_size="20KB")
    assert os.path.exists(os.path.join(folder, "model.safetensors.index.json"))


def save_bin(prefix, head, parameters=False):
    """pytorch_model.bin with this in front of the names instead of "model.decoder."."""
    def run(model, folder):
        model.config.save_pretrained(folder)
        state = collections.OrderedDict((n.replace("model.decoder.", prefix, 1), t) for n, t in
                                        (model.named_parameters() if parameters else model.state_dict().items()) if n != "lm_head.weight")
        if head:
            state["lm_head.weight"] = state[prefix + "embed_tokens.weight"]
        torch.save(state, os.path.join(folder, "pytorch_model.bin"))
    return run


def save_state_dict(model, folder):
    """As transformers did before it had safetensors, _metadata and all."""
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), os.path.join(folder, "pytorch_model.bin"))


def save_sharded_bin(model, folder):
    model.config.save_pretrained(folder)
    state, index = model.state_dict(), dict(metadata={}, weight_map={})
    names = list(state)
    for k in range(3):
        file = "pytorch_model-%05d-of-00003.bin" % (k + 1)
        part = names[k::3]
        torch.save({n: state[n] for n in part}, os.path.join(folder, file))
        index["weight_map"].update({n: file for n in part})
    with open(os.path.join(folder, "pytorch_model.bin.index.json"), "w") as f:
        json.dump(index, f)


FORMS = {
    "safetensors": save_safetensors,
    "safetensors shards": save_sharded,
    "bin state_dict": save_state_dict,
    "bin decoder. prefix": save_bin("decoder.", False),
    "bin no prefix, head": save_bin("", True),
    "bin parameters": save_bin("model.decoder.", True, True),
    "bin shards": save_sharded_bin,
}


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit("%s: exit status %d\n%s" % (" ".join(command), done.returncode, done.stderr))


def torch_logits(model, rows):
    with torch.no_grad():
        return model(input_ids=torch.tensor(rows), use_cache=False).logits.double().numpy()


def castor_logits(args, folder, tokens):
    out, logits = os.path.join(args.work, "grads.safetensors"), os.path.join(args.work, "logits.safetensors")
    for path in out, logits:
        if os.path.exists(path):
            os.remove(path)
    run(args.castor, "grads", "--model", folder, "--tokens-file", tokens, "--out", out, "--logits", logits)
    return load_file(logits)["logits"].astype(np.float64)


def check(args, what, ours, theirs):
    error = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
    ok = error <= LOGITS_MAX
    print("%-50s largest difference of a logit %.2e (of %.2f)%s" % (what, error, np.abs(theirs).max(), "" if ok else "  FAIL"), flush=True)
    return ok


def make(name, dtype):
    torch.manual_seed(7)
    config = OPTConfig(**MODELS[name], dropout=0.0)
    model = OPTForCausalLM._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for p in model.parameters():  # spread out, so that wrong places show in the logits
            p.copy_((p + 0.2 * torch.randn_like(p)).to(dtype).float())
    return model


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def check_in(args, name, rows, tokens):
    ok = True
    for dtype in torch.float32, torch.float16, torch.bfloat16:
        model = make(name, dtype)
        want = torch_logits(model, rows)
        for form, save in FORMS.items():
            folder = fresh(os.path.join(args.work, "in"))
            save(model.to(dtype), folder)
            model.float()
            ok &= check(args, "in: %s, %s, %s" % (name, str(dtype).removeprefix("torch."), form), castor_logits(args, folder, tokens), want)
    return ok


def check_out(args, name, rows, tokens):
    source, trained = fresh(os.path.join(args.work, "source")), fresh(os.path.join(args.work, "trained"))
    make(name, torch.float32).save_pretrained(source)
    run(args.castor, "train", "--model", source, "--tokens-file", tokens, "--batch", "1", "--seq", "8", "--steps", "3", "--lr", "1e-2",
        "--dropout", "0", "--eval-every", "0", "--out", trained)
    model, info = AutoModelForCausalLM.from_pretrained(trained, output_loading_info=True, dtype=torch.float32, attn_implementation="eager")
    GenerationConfig.from_pretrained(trained)
    ok = not any(info.values())
    if not ok:
        print("out: %s: transformers says %s  FAIL" % (name, info))
    theirs = torch_logits(model.eval(), rows)
    moved = np.abs(theirs - torch_logits(make(name, torch.float32), rows)).max()
    ok &= moved > 1e-2
    ok &= check(args, "out: %s after 3 steps (moved by %.2f)" % (name, moved), castor_logits(args, trained, tokens), theirs)
    again = fresh(os.path.join(args.work, "again"))
    model.save_pretrained(again)
    return ok & check(args, "out and in: %s" % name, castor_logits(args, again, tokens), theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--castor", default="./castor", help="the program")
    parser.add_argument("--work", required=True, help="folder for models and logits")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    ok = True
    for name, config in MODELS.items():
        rng = np.random.Generator(np.random.PCG64(3))
        rows = rng.integers(3, config["vocab_size"], (3, config["max_position_embeddings"])).tolist()
        tokens = os.path.join(args.work, "tokens.json")
        with open(tokens, "w") as f:
            json.dump(rows, f)
        ok &= check_in(args, name, rows, tokens)
        ok &= check_out(args, name, rows, tokens)
    print("PASS" if ok else "FAIL")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
