"""Remote paths: what is not in tests/golden/template.txt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ecpds.model.destination import Destination
from ecpds.model.errors import RuleError, TemplateError
from ecpds.model.host import Host
from ecpds.model.script import Script, escaped
from ecpds.model.secret import Secret
from ecpds.model.status import TransferStatus
from ecpds.model.targetvalues import target_values
from ecpds.model.template import (
    TOKENS,
    TargetValues,
    Template,
    base_directory,
    check_template,
    render,
)
from ecpds.model.transfer import DataFile, Transfer

NOW = datetime(2024, 3, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def values(target: str = "sub/a.grib", **tokens: str) -> TargetValues:
    return TargetValues(target=target, tokens=tokens, now=NOW)


def test_a_path_is_explained() -> None:
    template = Template.parse("/def/\n($destination[name]==STD) /$destination[name|lower]/")
    known = TargetValues(target="a", tokens={"destination[name]": "STD"}, now=NOW)
    path, explanation = render(template, known)
    assert path == "/std/a"
    assert (explanation.line, explanation.score, explanation.is_default) == (2, 1, False)
    assert explanation.tokens == (("$destination[name|lower]", "std"),)
    assert str(explanation) == (
        "line 2 (1 conditions hold): ($destination[name]==STD) /$destination[name|lower]/; "
        "$destination[name|lower] = 'std'; the target is appended"
    )
    assert "line 1 (the default): /def/" in str(render(template, values())[1])
    assert str(render(Template.parse(" \n"), values())[1]) == "no directory text: the target itself"


def test_a_value_is_never_read_as_a_rule_or_token() -> None:
    template = Template.parse("($metadata[type]==a) /no/\n($metadata[type].=a) /$metadata[type]/")
    tokens = {"metadata[type]": "a) /etc/;(x==x) $destination[name]", "destination[name]": "D"}
    known = TargetValues(target="t", tokens=tokens, now=NOW)
    assert render(template, known)[0] == "/a) /etc/;(x==x) $destination[name]/t"


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("/out/$metadata[a]/", "x", "leaves its base '/out/'"),
        ("$metadata[a]", "x", "leaves its base ''"),
        ("/out/$metadata[b]", "x", "holds a control character"),
        ("", "a\x00b", "holds a control character"),
        ("/out/", "x/../../b", "leaves its base"),
        ("/out/$metadata[c]", "x", "more than 4096 characters"),
        ("/out/$metadata[d][0..9]", "x", "has no characters 0..9"),
        ("/$date[datesource=$metadata[d]]", "x", "is no date"),
        ("$metadata[e]", "x", "gives nothing"),
        ("($metadata[d][0..9]==x) /x", "x", "has no characters"),
    ],
)
def test_dissemination_1_what_gives_no_usable_path(text: str, target: str, message: str) -> None:
    tokens = {
        "metadata[a]": "../../etc/passwd",
        "metadata[b]": "a\nb",
        "metadata[c]": "x" * 5000,
        "metadata[d]": "short",
        "metadata[e]": "  ",
    }
    with pytest.raises(TemplateError, match=message):
        render(Template.parse(text), TargetValues(target=target, tokens=tokens, now=NOW))


def test_dots_inside_the_base_and_backslashes_are_fine() -> None:
    tokens = {"metadata[a]": "b/../c"}
    known = TargetValues(target="t", tokens=tokens, now=NOW)
    assert render(Template.parse("/out/./$metadata[a]/"), known)[0] == "/out/./b/../c/t"
    assert render(Template.parse("C:\\out\\"), known)[0] == "C:\\out\\t"


def test_dates_are_in_the_zone_of_the_values() -> None:
    known = TargetValues(target="t", tokens={}, now=NOW, timezone=ZoneInfo("Asia/Tokyo"))
    template = Template.parse("$date[dateformat=HH]-$date[timezone=UTC,dateformat=HH]/")
    assert render(template, known)[0] == "19-10/t"


def test_dissemination_7_a_fixed_name_is_a_warning() -> None:
    problems = check_template("/out\n($metadata[a]==b) /in/$dataTransfer[name]")
    assert [(one.line, one.is_error) for one in problems] == [(1, False)]
    assert "every file gets the name '/out'" in problems[0].message
    assert check_template("/out/") == check_template("") == check_template("(a==a)") == []
    ties = check_template("($metadata[a]==b) /x/\n($metadata[c]==d) /y/")
    assert [(one.line, one.is_error) for one in ties] == [(2, False)]


def test_an_error_in_the_text_is_a_problem_with_its_place() -> None:
    (problem,) = check_template("/ok/\n  /$nope/")
    assert (problem.line, problem.column, problem.is_error) == (2, 4, True)
    with pytest.raises(RuleError, match=r"did you mean \$dataFile"):
        Template.parse("$dataFil[id]")


def test_dissemination_4_the_base_of_other_hosts() -> None:
    assert base_directory("/store/$destination[name]/") == "/store/"
    assert base_directory("\n /a \n/b") == "/a"
    assert base_directory("(a==b) /x") == base_directory("") == ""


def test_dissemination_5_a_script_is_recognised_and_values_are_escaped() -> None:
    template = Template.parse(' $(js:"/o/" + "$destination[name]" + "/") ')
    assert template.script is not None
    assert template.script.language == "javascript"
    name = "a\"b'c\\d`${x}\n\u2028é"
    source = template.script.source({"destination[name]": name})
    assert source == ('"/o/" + "a\\x22b\\x27c\\x5cd\\x60\\x24{x}\\x0a\\u2028é" + "/"')
    assert eval(source) == f"/o/{name}/"
    assert escaped("plain") == "plain"
    with pytest.raises(TemplateError, match="is a script"):
        render(template, values())
    assert template.warnings() == []


@pytest.mark.parametrize(
    ("text", "language", "code"),
    [
        ("$(1+1)", "javascript", "1+1"),
        ("$( python : x\n)", "python", " x\n"),
        ("$(PY:x)", "python", "x"),
        ("$(javascript:x)", "javascript", "x"),
    ],
)
def test_the_prefix_tells_the_language(text: str, language: str, code: str) -> None:
    script = Script.find(text, TOKENS)
    assert script is not None
    assert (script.language, script.source({})) == (language, code)


def test_what_is_not_wholly_in_brackets_is_no_script() -> None:
    assert Script.find("$(a) b", TOKENS) is None
    assert Script.find("/x/$(a)/", TOKENS) is None


def test_dissemination_2_every_token_has_its_value() -> None:
    transfer = Transfer(
        id=7,
        destination="STD",
        data_file=3,
        target="x/y/a.grib",
        comment="tc",
        status=TransferStatus.EXEC,
        scheduled_at=NOW,
        queue_at=NOW,
        due_at=NOW,
        expires_at=NOW + HOUR,
        created_at=NOW,
        asap=True,
    )
    file = DataFile(
        id=3,
        original="/arch/a.grib",
        source="a.grib",
        size=1536,
        checksum="0badcafe/adler",
        arrived_at=NOW,
        time_base=NOW,
        time_step=12,
        meta_stream="oper",
    )
    known = target_values(
        transfer=transfer,
        file=file,
        metadata={"type": "fc"},
        destination=Destination(name="STD", comment="dc", country="it", transfer_group="g"),
        host=Host(id=5, name="nick", host="h.example", login="l", password=Secret("pw")),
        module="sftp",
        node="node1",
        node_port=21,
        now=NOW,
    )
    expected = {
        "$dataTransfer[target]": "x/y/a.grib",
        "$dataTransfer[path]": "x/y/a.grib",
        "$dataTransfer[name]": "a.grib",
        "$dataTransfer[parent]": "x/y",
        "$dataTransfer[id]": "7",
        "$dataTransfer[identity]": "x/y/a.grib",
        "$dataTransfer[priority]": "99",
        "$dataTransfer[scheduled]": "1709287200000",
        "$dataTransfer[statusCode]": "Transferring",
        "$dataTransfer[asap]": "true",
        "$dataTransfer[comment]": "tc",
        "$dataFile[id]": "3",
        "$dataFile[original]": "/arch/a.grib",
        "$dataFile[size]": "1536",
        "$dataFile[formatSize]": "1.5 KB",
        "$dataFile[checksum]": "0badcafe",
        "$dataFile[timeStep]": "12",
        "$dataFile[timeBase]": "1709287200000",
        "$dataFile[timeFile]x": "x",
        "$dataFile[arrivedTime]": "1709287200000",
        "$dataFile[metaStream]": "oper",
        "$metadata[type]": "fc",
        "$destination[comment]": "dc",
        "$country[iso]": "it",
        "$host[name]": "5",
        "$host[nickname]": "nick",
        "$host[host]": "h.example",
        "$host[login]": "l",
        "$transferGroup[name]": "g",
        "$ectransModule[name]": "sftp",
        "$moverName": "node1",
        "$transferServer[name]": "node1",
        "$originalTransferServer[port]": "21",
    }
    for text, result in expected.items():
        assert render(Template.parse(text), known)[0] == result, text
    assert "pw" not in str(known.tokens)
