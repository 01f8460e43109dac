"""Forms from declarations, the graph of aliases, predictions, urgency of products."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ecpds.model.destination import Destination
from ecpds.model.host import Host
from ecpds.model.names import ByteCount
from ecpds.model.prediction import predict
from ecpds.model.product import ProductEntry, ProductKey, ProductState
from ecpds.model.secret import Secret
from ecpds.web import graphs, plots
from ecpds.web.pages import destination_form, forms, host_form, products

NOW = datetime(2031, 5, 4, 10, 0, tzinfo=UTC)


def test_a_form_that_is_sent_back_unchanged_changes_nothing() -> None:
    """Every field of the layout survives the way to the browser and back."""
    one = Destination(
        name="A", hosts=("x", "y"), max_file_size=ByteCount(1500),
        retry_frequency=timedelta(seconds=90),
        options={"scheduler.delay": "5m"}, active=False,
    )  # fmt: skip
    texts = forms.texts_of(one, destination_form.LAYOUT)
    pairs: list[tuple[str, str]] = []
    for key, value in texts.items():
        if isinstance(value, tuple):
            pairs += [(key, name) for name in (*value, "", "")]
        elif not isinstance(value, bool):
            pairs.append((key, value))
        elif value:
            pairs.append((key, "yes"))
    typed = forms.read(Destination, destination_form.LAYOUT, pairs)
    assert typed.errors == {}
    assert typed.texts == texts
    assert typed.document["hosts"] == ["x", "y"]
    assert typed.document["options"] == {"scheduler.delay": "5m"}


def test_all_wrong_fields_are_told_at_once() -> None:
    pairs = [("retry_frequency", "soon"), ("max_connections", "x"), ("options", "no line")]
    typed = forms.read(Destination, destination_form.LAYOUT, pairs)
    assert set(typed.errors) == {"retry_frequency", "max_connections", "options"}


def test_a_password_is_never_in_a_form() -> None:
    one = Host(name="a", password=Secret("hidden"))
    texts = forms.texts_of(one, host_form.LAYOUT)
    assert texts["password"] == forms.KEEP
    typed = forms.read(Host, host_form.LAYOUT, [("password", "")])
    assert typed.document["password"] == forms.KEEP
    assert "hidden" not in str(typed)


def test_the_graph_has_columns_of_steps() -> None:
    edges = [("A", "B"), ("B", "C"), ("X", "B"), ("C", "A")]
    assert graphs.levels("B", edges) == {"B": 0, "C": 1, "A": 2, "X": -1}
    drawn = graphs.aliases("B", [("B", "<b>")], {"B": "good"})
    assert "<b>" not in drawn
    assert drawn.count("<rect") == 2


def test_a_prediction_loses_its_extremes_and_counts_its_samples() -> None:
    assert predict([]) is None
    found = predict([timedelta(minutes=one) for one in (10, 10, 10, 10, 500, 1)])
    assert found is not None
    assert found.after == timedelta(minutes=10)
    assert found.samples == 6
    assert found.is_sound
    few = predict([timedelta(minutes=1)])
    assert few is not None
    assert not few.is_sound


def test_how_late_a_product_is() -> None:
    def look(minutes: int | None, state: ProductState = ProductState.INIT) -> str:
        at = NOW + timedelta(minutes=minutes) if minutes is not None else None
        entry = ProductEntry(
            key=ProductKey(stream="s", time="00", step=0), state=state, scheduled_at=at,
            time_base=None, updated_at=NOW,
        )  # fmt: skip
        return products.look_of(entry, NOW).word

    assert [look(one) for one in (30, 15, 0, -1, -61)] == [
        "In time", "Soon due", "Due", "Late", "Missing",
    ]  # fmt: skip
    assert look(-61, ProductState.EXEC) == "Late"
    assert look(-61, ProductState.DONE) == "Completed"
    assert look(None) == "No schedule"


def test_a_plot_tells_each_column() -> None:
    drawn = plots.columns([plots.Point(0, "a"), plots.Point(5, "<i>", bad=1)], "two & two")
    assert drawn.count("<title>") == 2
    assert "&lt;i&gt;" in drawn
    assert 'aria-label="two &amp; two"' in drawn
