#!/usr/bin/env python3
"""Train the same random OPT with Castor and with PyTorch in fp32 and compare every loss.

Same initial weights, same batches (blocks of the text in order), same AdamW, warm-up, decay and clipping, dropout
off. Needs torch, transformers and tokenizers; passes when every loss is within --tolerance relative of PyTorch's.

    compare_training.py --castor ./castor --text wiki.train.raw --tokenizer DIR --work DIR [--device SPEC]
"""
import argparse
import json
import os
import subprocess
import sys
import time


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--castor", required=True)
    p.add_argument("--text", required=True, help="raw text")
    p.add_argument("--tokenizer", required=True, help="folder with vocab.json and merges.txt")
    p.add_argument("--work", required=True)
    p.add_argument("--config", default="350m", help="350m, or a config.json")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--seq", type=int, default=512)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--lr", type=float, default=5e-5)
    p.add_argument("--device", help="for castor --device")
    p.add_argument("--torch-device", default="cuda")
    p.add_argument("--tolerance", type=float, default=5e-4)
    p.add_argument("--json", help="write all losses here")
    return p.parse_args()


def make_model(args):
    import torch
    from transformers import OPTConfig, OPTForCausalLM

    if os.path.exists(args.config):
        config = OPTConfig.from_json_file(args.config)
    else:
        assert args.config == "350m", "a config.json or 350m"
        config = OPTConfig(vocab_size=50272, hidden_size=1024, num_hidden_layers=24, ffn_dim=4096, num_attention_heads=16,
                           max_position_embeddings=2048, word_embed_proj_dim=512, do_layer_norm_before=False)
    config.dropout = config.attention_dropout = config.activation_dropout = 0.0
    torch.manual_seed(0)
    model = OPTForCausalLM(config).float()
    model.save_pretrained(os.path.join(args.work, "model"), max_shard_size="100GB")
    return model


def make_tokens(args):
    from tokenizers import ByteLevelBPETokenizer

    t = ByteLevelBPETokenizer(os.path.join(args.tokenizer, "vocab.json"), os.path.join(args.tokenizer, "merges.txt"))
    ids = t.encode(open(args.text, encoding="utf-8").read()).ids
    need = args.batch * args.seq * args.steps
    assert len(ids) >= need, f"the text has {len(ids)} tokens, {need} are needed"
    json.dump([ids[:need]], open(os.path.join(args.work, "tokens.json"), "w"))
    return ids[:need]


def train_torch(args, model, ids):
    import torch

    model = model.to(args.torch_device)
    model.train()
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "layer_norm" in n]
    decayed = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "layer_norm" in n)]
    optim = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
                              lr=args.lr, betas=(0.9, 0.999), eps=1e-8)
    warmup, losses, n = int(0.1 * args.steps + 0.5), [], args.batch * args.seq
    start = time.time()
    for t in range(args.steps):
        lr = args.lr * (t + 1) / warmup if t < warmup else args.lr * (args.steps - t) / (args.steps - warmup)
        for g in optim.param_groups:
            g["lr"] = lr
        x = torch.tensor(ids[t * n:(t + 1) * n], device=args.torch_device).view(args.batch, args.seq)
        optim.zero_grad()
        logits = model(input_ids=x).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), x[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optim.step()
        losses.append(loss.item())
    print(f"PyTorch: {args.steps} steps in {time.time() - start:.1f} s", flush=True)
    return losses


def train_castor(args):
    out = os.path.join(args.work, "run")
    command = [args.castor, "train", "--model", os.path.join(args.work, "model"), "--tokens-file", os.path.join(args.work, "tokens.json"),
               "--out", out, "--batch", str(args.batch), "--seq", str(args.seq), "--steps", str(args.steps), "--lr", str(args.lr),
               "--dropout", "0", "--no-shuffle", "--eval-every", "0"]
    if args.device:
        command += ["--device", args.device]
    start = time.time()
    subprocess.run(command, check=True)
    print(f"Castor: {args.steps} steps in {time.time() - start:.1f} s, loading and saving included", flush=True)
    return [json.loads(line)["loss"] for line in open(os.path.join(out, "metrics.jsonl"))]


def main():
    args = arguments()
    os.makedirs(args.work, exist_ok=True)
    ids = make_tokens(args)
    model = make_model(args)
    ours = train_castor(args)
    theirs = train_torch(args, model, ids)
    worst = max(range(args.steps), key=lambda t: abs(ours[t] - theirs[t]) / theirs[t])
    error = abs(ours[worst] - theirs[worst]) / theirs[worst]
    for t in sorted({0, 1, args.steps // 4, args.steps // 2, args.steps - 1, worst}):
        print(f"step {t + 1:4d}  castor {ours[t]:.7f}  torch {theirs[t]:.7f}  relative {abs(ours[t] - theirs[t]) / theirs[t]:.2e}")
    ok = len(ours) == args.steps and error <= args.tolerance
    print(f"{'PASS' if ok else 'FAIL'}: worst of {args.steps} losses {error:.2e} relative, allowed {args.tolerance:.0e}")
    if args.json:
        json.dump({"castor": ours, "torch": theirs, "worst": error}, open(args.json, "w"))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
