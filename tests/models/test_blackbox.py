"""Cost models that are somebody else's: what is asked, what is believed, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

import fusecut as fc
from fusecut.cost import CostModel, Infeasible, Planned
from fusecut.errors import CostModelError
from fusecut.machine import Machine
from fusecut.models import BlackBox, ExternalCommand
from fusecut.models.blackbox import LARGEST_ANSWER_BYTES, question
from fusecut.problem import Problem
from fusecut.testing import Net, brute_force, random_problem

MACHINE = Machine(4096)
FITS = {"feasible": True, "buffer_bytes": 100, "dram_bytes": 5000}


def graph() -> fc.Graph:
    net = Net()
    x = net.conv(net.input(2, 8, 8), 4, biases=True, name="first")
    return net.graph(net.conv(x, 4, name="second"), net.conv(x, 1, name="third"))


def answered(answer: Any, group: int = 0b011, touches_once: bool = False) -> Planned | Infeasible:
    return BlackBox(lambda asked: answer, touches_once=touches_once).plan(graph(), group, MACHINE)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


ECHO = python("import json,sys; q=json.load(sys.stdin); print(json.dumps({'feasible': len(q['ops'])<2, 'dram_bytes': 7000+len(q['ops']), 'buffer_bytes': 9}))")  # fmt: skip  # noqa: E501


# The question ------------------------------------------------------------------------------------


def test_the_question_describes_ops_tensors_and_machine() -> None:
    asked = question(graph(), 0b011, MACHINE)
    assert [op["name"] for op in asked["ops"]] == ["first", "second"]
    first = asked["ops"][0]
    assert first["kind"] == "conv" and first["attrs"]["kernel"] == [3, 3]
    assert first["weight_bytes"] == 2 * 4 * 9 + 4 * 4 and first["bias_elements"] == 4
    assert asked["reads"] == first["inputs"] and set(asked["writes"]) == {"t1", "t2"}
    assert asked["tensors"]["t1"] == {"shape": [1, 4, 8, 8], "bits": 8, "bytes": 256}
    assert asked["machine"]["buffer_bytes"] == 4096 and asked["protocol"] == 1


def test_the_question_is_json_and_the_same_every_time() -> None:
    first, again = (json.dumps(question(graph(), 0b111, MACHINE), sort_keys=True) for _ in range(2))
    assert first == again


def test_both_are_cost_models() -> None:
    assert isinstance(BlackBox(lambda asked: FITS), CostModel) and isinstance(ExternalCommand(("true",)), CostModel)


# The answer --------------------------------------------------------------------------------------


def test_traffic_is_divided_by_what_leaves_the_group() -> None:
    planned = answered(FITS)
    assert isinstance(planned, Planned)
    cost = planned.cost
    assert (cost.dram_bytes, cost.buffer_bytes, cost.write_bytes) == (5000, 100, 512)
    assert cost.weight_bytes == 2 * 4 * 9 + 16 + 4 * 4 * 9
    assert planned.schedule.scheme == "blackbox" and planned.schedule.order == (0, 1)


def test_figures_that_are_given_are_taken() -> None:
    planned = answered(FITS | {"write_bytes": 1000, "weight_bytes": 3, "macs": 8, "recomputed_macs": 2})
    assert isinstance(planned, Planned)
    cost = planned.cost
    assert (cost.read_bytes, cost.write_bytes, cost.weight_bytes, cost.macs, cost.recomputed_macs) == (
        4000,
        1000,
        3,
        8,
        2,
    )


def test_a_refusal_gives_demand_and_reason() -> None:
    refused = answered({"feasible": False, "buffer_bytes": 5000, "reason": "weights\n\x1b[31m do not fit"})
    assert isinstance(refused, Infeasible)
    assert (refused.resource, refused.demand, refused.limit) == ("buffer", 5000, 4096)
    assert str(refused).endswith("weights  [31m do not fit")


def test_a_refusal_for_another_reason_is_no_lack_of_buffer() -> None:
    refused = answered({"feasible": False, "reason": "no kernel for this op"})
    assert isinstance(refused, Infeasible) and str(refused) == "no kernel for this op"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([1, 2], 'the answer must be an object with "feasible"'),
        (None, 'the answer must be an object with "feasible"'),
        ({"dram_bytes": 1}, 'the answer must be an object with "feasible"'),
        ({"feasible": 1}, 'the answer must be an object with "feasible"'),
        ({"feasible": True, "buffer_bytes": 1}, 'needs "dram_bytes" and "buffer_bytes"'),
        ({"feasible": True, "dram_bytes": 1}, 'needs "dram_bytes" and "buffer_bytes"'),
        (FITS | {"dram_bytes": -1}, '"dram_bytes" is out of range'),
        (FITS | {"dram_bytes": 2**80}, '"dram_bytes" is out of range'),
        (FITS | {"dram_bytes": True}, '"dram_bytes" is out of range'),
        (FITS | {"dram_bytes": 1.5}, '"dram_bytes" is 1.5: it must be a whole number'),
        (FITS | {"buffer_bytes": "1"}, "\"buffer_bytes\" is '1': it must be a whole number"),
        (FITS | {"buffer_bytes": 5000}, '"buffer_bytes" is 5,000: the buffer has 4,096'),
        (FITS | {"write_bytes": 4999, "weight_bytes": 2}, "5,001, more than"),
    ],
)
def test_a_wrong_answer_is_refused_in_one_line_that_names_the_group(answer: Any, says: str) -> None:
    with pytest.raises(CostModelError) as caught:
        answered(answer)
    text = str(caught.value)
    assert text.startswith("cost model 'blackbox', group first..second (2 ops): ") and says in text
    assert "\n" not in text


def test_a_broken_promise_to_touch_once_is_refused() -> None:
    assert isinstance(answered(FITS | {"dram_bytes": 10}), Planned)
    with pytest.raises(CostModelError, match='"dram_bytes" is 10, less than touching all once'):
        answered(FITS | {"dram_bytes": 10}, touches_once=True)


# A function under a search -----------------------------------------------------------------------


def lbdf(asked: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    """The line-buffer model behind the protocol, as an outside tool would be."""
    group = sum(1 << problem.graph.op_index[op["name"]] for op in asked["ops"])
    planned = problem.plan(group)
    if isinstance(planned, Infeasible):
        return {"feasible": False, "reason": planned.where}
    return {"feasible": True, "dram_bytes": planned.cost.dram_bytes, "buffer_bytes": planned.cost.buffer_bytes}


@pytest.mark.parametrize("search", ["exact", "lazy_exact", "local", "annealing"])
def test_searches_find_the_optimum_of_a_black_box(search: str) -> None:
    for seed in range(4):
        problem = random_problem(seed)
        model = BlackBox(lambda asked, problem=problem: lbdf(asked, problem), touches_once=True)  # type: ignore[misc]
        found = fc.solve(
            problem.graph, machine=problem.machine, model=model, search=fc.search.searcher(search), max_plans=400
        )
        assert found.cost.dram_bytes == brute_force(problem) and found.provenance.scheme == "blackbox"


def test_every_group_is_asked_once() -> None:
    asked: list[str] = []

    def model(group: Mapping[str, Any]) -> dict[str, Any]:
        asked.append(json.dumps(group))
        return FITS

    found = fc.solve(graph(), machine=MACHINE, model=BlackBox(model), search=fc.search.LocalSearch(), max_plans=50)
    assert len(asked) == len(set(asked)) == found.evaluations


# Commands ----------------------------------------------------------------------------------------


def asked(command: ExternalCommand, group: int = 0b001) -> Planned | Infeasible:
    return command.plan(graph(), group, MACHINE)


def test_a_command_is_asked_and_believed() -> None:
    planned = asked(ExternalCommand(ECHO))
    assert isinstance(planned, Planned) and planned.cost.dram_bytes == 7001
    assert isinstance(asked(ExternalCommand(ECHO), 0b011), Infeasible)


def test_nothing_passes_through_a_shell(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(CostModelError):
        asked(ExternalCommand(("echo", f"$(touch {mark}); touch {mark}"), retries=0))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('hello')", "the answer is not JSON: 'hello"),
        ("pass", "the answer is not JSON: ''"),
        ("print('['*100000)", "the answer is not JSON"),
        (f"print(' '*{LARGEST_ANSWER_BYTES + 10})", "the answer is longer than 1,048,576 bytes"),
        ("import sys; sys.exit(3)", "exited with 3 (2 times)"),
        ("import sys; print('no licence\\nreally', file=sys.stderr); sys.exit(1)", "exited with 1: really (2 times)"),
    ],
)
def test_a_failing_command_is_one_clear_line(code: str, says: str) -> None:
    with pytest.raises(CostModelError) as caught:
        asked(ExternalCommand(python(code)))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert "group first" in str(caught.value)


def test_a_command_that_is_not_there_says_so() -> None:
    with pytest.raises(CostModelError, match="'no-such-program-here' cannot be started: No such file"):
        asked(ExternalCommand(("no-such-program-here",)))


def test_a_command_without_a_program_is_refused() -> None:
    with pytest.raises(CostModelError, match="needs at least a program"):
        ExternalCommand(())


def test_a_command_that_takes_too_long_is_stopped_with_all_it_started() -> None:
    code = "import subprocess,sys; subprocess.Popen([sys.executable,'-c','import time; time.sleep(60)']).wait()"
    started = monotonic()
    with pytest.raises(CostModelError, match=r"took longer than 0\.5 s$"):
        asked(ExternalCommand(python(code), timeout_seconds=0.5, retries=0))
    assert monotonic() - started < 10


def test_endless_output_ends_with_the_timeout_in_bounded_memory() -> None:
    code = "import sys\nwhile True: sys.stdout.write('x'*65536)"
    with pytest.raises(CostModelError, match="took longer than"):
        asked(ExternalCommand(python(code), timeout_seconds=1, retries=0))


def test_a_command_that_does_not_read_its_question_is_no_problem() -> None:
    code = 'print(\'{"feasible": true, "dram_bytes": 9000, "buffer_bytes": 1}\')'
    assert isinstance(asked(ExternalCommand(python(code)), 0b111), Planned)


def test_a_flaky_command_is_tried_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    code = f"import os,sys\nif not os.path.exists({str(flag)!r}): open({str(flag)!r},'w'); sys.exit(1)\n"
    code += 'print(\'{"feasible": true, "dram_bytes": 9000, "buffer_bytes": 1}\')'
    with pytest.raises(CostModelError):
        asked(ExternalCommand(python(code), retries=0))
    flag.unlink()
    assert isinstance(asked(ExternalCommand(python(code), retries=1)), Planned)


# The cache ---------------------------------------------------------------------------------------


def counting(tmp_path: Path) -> tuple[ExternalCommand, Path]:
    log = tmp_path / "log"
    code = f"open({str(log)!r},'a').write('x'); " + ECHO[2]
    return ExternalCommand(python(code), cache_dir=tmp_path / "cache"), log


def test_an_answer_is_asked_once_and_kept_for_later_runs(tmp_path: Path) -> None:
    command, log = counting(tmp_path)
    first = asked(command)
    again = asked(replace(command))
    assert first == again and log.read_text() == "x"


def test_refusals_are_kept_and_errors_are_not(tmp_path: Path) -> None:
    command, log = counting(tmp_path)
    assert asked(command, 0b011) == asked(command, 0b011) and log.read_text() == "x"
    broken = ExternalCommand(python("print('no')"), cache_dir=tmp_path / "other")
    with pytest.raises(CostModelError):
        asked(broken)
    assert not list((tmp_path / "other").rglob("*.json"))


def test_another_group_machine_or_command_is_another_question(tmp_path: Path) -> None:
    command, log = counting(tmp_path)
    asked(command)
    asked(command, 0b010)
    command.plan(graph(), 0b001, Machine(5000))
    asked(replace(command, command=(*command.command, "--other")))
    assert log.read_text() == "xxxx"


@pytest.mark.parametrize("damage", [b"", b"{", b'{"feasible": true}', b"\xff\xfe", b" " * (LARGEST_ANSWER_BYTES + 2)])
def test_a_damaged_cache_file_is_asked_for_again(tmp_path: Path, damage: bytes) -> None:
    command, log = counting(tmp_path)
    first = asked(command)
    (kept,) = (tmp_path / "cache").rglob("*.json")
    kept.write_bytes(damage)
    assert asked(command) == first and log.read_text() == "xx"
    assert kept.read_bytes() != damage


def test_the_cache_holds_whole_files_only_while_several_searches_share_it(tmp_path: Path) -> None:
    command, _ = counting(tmp_path)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(asked(command))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(answer == found[0] for answer in found)
    assert [path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [".json"]


def test_a_cache_whose_place_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(CostModelError, match="cannot write the cache"):
        asked(ExternalCommand(ECHO, cache_dir=tmp_path / "cache"))


PAGE = Path(__file__).parents[2] / "docs" / "blackbox.md"


def test_the_function_of_the_documentation_runs() -> None:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("Status.optimal ")


def test_the_command_of_the_documentation_runs(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    script = tmp_path / "tool.py"
    script.write_text(page.split("```python\n#!")[1].split("\n", 1)[1].split("```")[0])
    command = ExternalCommand((sys.executable, str(script)), cache_dir=tmp_path / "cache", touches_once=True)
    problem = Problem(graph(), MACHINE, command)
    planned = problem.plan(0b001)
    assert isinstance(planned, Planned)
    assert planned.cost.dram_bytes == graph().touch_once_bytes(0b001)
