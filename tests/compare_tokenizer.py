#!/usr/bin/env python3
"""Compare castor's tokenizer with Hugging Face's.

With --tokenizer, a folder with OPT's vocab.json, merges.txt and configuration: ids of the fixture's difficult strings,
of every Unicode character in five surroundings, of very long words; and with --data, a folder with WikiText-2's
wiki.test.raw and wiki.valid.raw, ids and counts of these. Then learning: merges from texts, random ones too, must be
those of BpeTrainer, and transformers must read what castor saved.

Needs tokenizers and transformers. Exit status: 0 pass, 1 fail.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
# Tokens of WikiText-2 raw with OPT's vocabulary, without the leading </s>; and with it for the test split joined as in
# the perplexity protocol of the papers: its rows with "\n\n" between them, where an empty line is an empty row.
COUNTS = {"wiki.test.raw": 286221, "wiki.valid.raw": 249887}
PROTOCOL = 287645


class Report:
    def __init__(self):
        self.failed = 0

    def __call__(self, good, what):
        print("%-5s %s" % ("ok" if good else "FAIL", what), flush=True)
        self.failed += not good


def castor(args, *words, text=None):
    r = subprocess.run([args.castor, "tokenizer", *words], input=text, stdout=subprocess.PIPE, check=True)
    return r.stdout


def encode(args, folder, text, *flags):
    data = text if isinstance(text, bytes) else text.encode()
    return json.loads(castor(args, "encode", "--tokenizer", folder, "--json", *flags, "-", text=data))["ids"]


def characters():
    """Every character as a letter, a number, a space and anything else would be seen. A line each."""
    valid = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    return "".join("a%ca1%c1!%c! %c  %c\n" % ((c,) * 5) for c in valid)


def compare_strings(args, hf, report):
    with open(os.path.join(ROOT, "tests", "fixtures", "tokenizer", "strings.json")) as f:
        texts = [row["text"] for row in json.load(f)]
    bad = [t for t in texts if encode(args, args.tokenizer, t, "--bos") != hf.encode(t)]
    report(not bad, "%d difficult strings %s" % (len(texts), bad[:3] if bad else ""))
    everything = characters()
    report(encode(args, args.tokenizer, everything) == hf.encode(everything, add_special_tokens=False),
           "every character, %.1f MB" % (len(everything.encode()) / 1e6))
    r = random.Random(1)
    for name, text in [("one letter", "a" * 100000), ("random letters", "".join(r.choice("etaoinshrdlu") for _ in range(100000))),
                       ("spaces", " " * 100000 + "x"), ("CJK", "字漢" * 30000), ("punctuation", "!?" * 50000)]:
        report(encode(args, args.tokenizer, text) == hf.encode(text, add_special_tokens=False), "100,000 long: " + name)
    raw = bytes(r.randrange(256) for _ in range(100000))
    ids = encode(args, args.tokenizer, raw)
    back = castor(args, "decode", "--tokenizer", args.tokenizer, "-", text=" ".join(map(str, ids)).encode())
    report(back == raw, "100,000 random bytes make the round trip")


def compare_wikitext(args, hf, report):
    for name, want in COUNTS.items():
        with open(os.path.join(args.data, name), encoding="utf-8", newline="") as f:
            text = f.read()
        ids = encode(args, args.tokenizer, text)
        report(len(ids) == want and ids == hf.encode(text, add_special_tokens=False), "%s: %d tokens" % (name, len(ids)))
        if name == "wiki.test.raw":
            rows = [line + "\n" if line.strip() else "" for line in text.split("\n")[:-1]]
            ids = encode(args, args.tokenizer, "\n\n".join(rows), "--bos")
            report(len(ids) == PROTOCOL and ids == hf.encode("\n\n".join(rows)), "%s, %d rows by the protocol: %d tokens" % (name,
                                                                                                                             len(rows),
                                                                                                                             len(ids)))


def learn_hf(path, size, least):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train([path], trainers.BpeTrainer(vocab_size=size, min_frequency=least, special_tokens=SPECIALS, show_progress=False,
                                        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(t.to_str())["model"]
    return model["vocab"], [" ".join(m) if isinstance(m, list) else m for m in model["merges"]]


def learns_the_same(args, folder, path, size, least):
    castor(args, "train", "--out", folder, "--vocab-size", str(size), "--min-frequency", str(least), "--quiet", path)
    with open(os.path.join(folder, "vocab.json")) as f:
        vocab = json.load(f)
    with open(os.path.join(folder, "merges.txt"), newline="\n") as f:
        merges = f.read().split("\n")[1:-1]
    return (vocab, merges) == learn_hf(path, size, least), len(merges)


def compare_learning(args, report):
    with tempfile.TemporaryDirectory() as work:
        folder, corpus = os.path.join(work, "tokenizer"), os.path.join(work, "corpus")
        texts = [(os.path.join(ROOT, "data", "sample", "wiki.train.raw"), 50265, 1)]
        if args.data:
            texts.append((os.path.join(args.data, "wiki.valid.raw"), 20000, 2))
        unknown = os.path.join(work, "unknown")
        with open(unknown, "w") as f:
            f.write("the <unk> of </s> <unk> is <unk> and <pad>\n" * 9)  # merges that make special tokens
        texts.insert(0, (unknown, 1000, 2))
        for path, size, least in texts:
            same, merges = learns_the_same(args, folder, path, size, least)
            report(same, "%d merges learned from %s" % (merges, os.path.basename(path)))
        hf = AutoTokenizer.from_pretrained(folder)
        text = "It's transformers that reads </s> what  castor saved: caf\u00e9 \u4e2d\u6587"
        report(encode(args, folder, text, "--bos") == hf.encode(text), "transformers reads what castor saved")
        bad = 0
        for seed in range(60):  # few letters, long words: the same piece is made in several ways
            r = random.Random(seed)
            letters = ["ab", "abc", "abcd\u00e9"][seed % 3]
            with open(corpus, "w") as f:
                f.write(" ".join("".join(r.choice(letters) for _ in range(r.randint(1, 30))) for _ in range(r.choice([3, 20, 100,
                                                                                                                      400]))) + "\n")
            bad += not learns_the_same(args, folder, corpus, r.choice([300, 500, 1000, 5000]), r.choice([1, 2, 3]))[0]
        report(not bad, "60 random texts: %d learned otherwise" % bad)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--castor", default="./castor", help="the program")
    p.add_argument("--tokenizer", help="folder with OPT's tokenizer")
    p.add_argument("--data", help="folder with WikiText-2 raw")
    args = p.parse_args()
    report = Report()
    if args.tokenizer:
        hf = AutoTokenizer.from_pretrained(args.tokenizer)
        hf.model_max_length = 10**9
        compare_strings(args, hf, report)
        if args.data:
            compare_wikitext(args, hf, report)
    compare_learning(args, report)
    print("%d failed" % report.failed)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
