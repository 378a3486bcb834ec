"""`inferplane explain`."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=10)


def test_the_plan_as_json(run):
    done = run("explain", "tiny-arithmetic", "--device", "cpu", "--json", "--strict")
    plan = json.loads(done.stdout)
    assert plan["platform"]["name"] == "cpu"
    by_op = {row["op"]: row for row in plan["ops"]}
    assert by_op["attention"]["kernel"] == "cpu.native_attention"
    assert by_op["attention"]["sites"] == 4
    assert by_op["linear"]["verified"].startswith("V3")
    refused = {r["kernel"]: r["reason"] for r in by_op["attention"]["rejected"]}
    assert "--strict" in refused["reference.attention"]
    layers, kv_heads, head_dim, both, bf16 = 4, 2, 64, 2, 2
    assert plan["memory"]["kv_bytes_per_token"] == layers * kv_heads * head_dim * both * bf16
    assert plan["settings"]["strict"] == {"value": True, "source": "flag"}
    assert plan["settings"]["dtype"] == {"value": "bf16", "source": "checkpoint"}


def test_the_pages_of_each_group(run, changed_config):
    folder = changed_config("qwen2-windows")
    flags = ["--device", "cpu", "--page-size", "16", "--num-pages", "1000"]
    flags += ["--max-num-seqs", "4", "--max-num-batched-tokens", "64"]
    full, window = json.loads(run("explain", str(folder), "--json", *flags).stdout)["groups"]
    assert (full["name"], full["layers"], full["window"], full["pages"]) == ("full", 1, 0, 1000)
    assert (window["name"], window["layers"], window["window"]) == ("window24", 2, 24)
    running, ends, step = 4, 16_000 // 1024, 64 // 16
    assert window["pages"] == (running + ends) * 4 + step
    shown = run("explain", str(folder), *flags).stdout
    assert "1,000" in shown
    assert "window24" in shown


def test_pins_show_in_the_plan_and_as_a_warning(run):
    done = run(
        "explain", "tiny-arithmetic", "--device", "cpu", "--kernel", "linear=reference.linear"
    )
    assert done.returncode == 0, done.stderr
    assert "linear is pinned to reference.linear" in done.stdout
    assert "--strict would refuse" in done.stdout


def test_a_profile_needs_no_such_device(run):
    done = run("explain", "tiny-arithmetic", "--device", "cpu", "--target", "server", "--json")
    plan = json.loads(done.stdout)
    assert plan["platform"]["planning"] is True
    assert plan["memory"]["device_total_bytes"] == 128 << 30


def test_an_unknown_profile_lists_those_there_are(run):
    done = run("explain", "tiny-arithmetic", "--device", "cpu", "--target", "moon")
    assert done.returncode == 1
    assert "profiles: laptop, server" in done.stderr


def test_problems_are_listed_before_anything_is_loaded(run):
    never = ("linear!=cpu.onednn", "linear!=cpu.native_linear", "sample!=cpu.sample")
    flags = ["--strict", *(word for ban in never for word in ("--kernel", ban))]
    done = run("explain", "tiny-arithmetic", "--device", "cpu", *flags)
    assert done.returncode == 1
    assert "linear" in done.stderr
    assert "sample" in done.stderr
    assert "forbidden by --kernel" in done.stderr


def test_settings_tell_variable_and_file(run, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("max_num_seqs: 4\npage_size: 32\n")
    done = run(
        "explain",
        "tiny-arithmetic",
        "--json",
        "--config",
        str(file),
        INFERPLANE_DEVICE="cpu",
        INFERPLANE_MAX_NUM_SEQS="8",
    )
    settings = json.loads(done.stdout)["settings"]
    assert settings["max_num_seqs"] == {"value": 8, "source": "environment"}
    assert settings["page_size"] == {"value": 32, "source": str(file)}


def sections(text: str) -> list[list[str]]:
    return [part.splitlines() for part in text.split("\n\n")]


def test_a_narrow_terminal_has_the_reasons_below_the_kernels(run):
    done = run("explain", "tiny-arithmetic", "--device", "cpu", COLUMNS="80")
    assert max(map(len, done.stdout.splitlines())) <= 80
    _, _, kernels, reasons, settings = sections(done.stdout)
    assert kernels[0].split() == ["op", "request", "sites", "kernel", "verified"]
    assert any("cpu.native_attention_input" in line for line in kernels)
    assert reasons[0] == "why not the others"
    linear = "reference.linear: lower priority than cpu.native_linear"
    assert sum(linear in line for line in reasons) == 1
    assert settings[0].startswith("settings")
    assert any(line.split()[:2] == ["dtype", "bf16"] for line in settings)


def test_reasons_are_told_once_an_op_in_a_pipe(run):
    done = run("explain", "tiny-arithmetic", "--device", "cpu")
    assert done.stdout.count("reference.linear: lower priority than cpu.native_linear") == 1
    assert "as for bf16 256x512" in done.stdout
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())


def test_settings_at_their_defaults_are_only_counted(run):
    flags = ["--device", "cpu", "--max-num-seqs", "8", "--plugins", "cpu,reference"]
    settings = sections(run("explain", "tiny-arithmetic", *flags).stdout)[-1]
    shown = {words[0]: words[1:] for words in (line.split() for line in settings)}
    assert shown["max_num_seqs"] == ["8", "flag"]
    assert shown["max_model_len"] == ["1024", "checkpoint"]
    assert "restart_limit" not in shown and "device" not in shown
    assert settings[0].split() == ["settings", "plugins", "cpu,", "reference", "flag"]
    assert " ".join(settings[-1].split()).endswith(" more default; --json has all of them")


def test_a_cache_that_holds_all_requests_says_so(run):
    few = run("explain", "tiny-arithmetic", "--device", "cpu", "--max-num-seqs", "8").stdout
    assert "16,384 tokens: all that --max-num-seqs 8 can use" in few
    given = run("explain", "tiny-arithmetic", "--device", "cpu", "--kv-memory", "1000000").stdout
    assert "tokens: kv-memory" in given
