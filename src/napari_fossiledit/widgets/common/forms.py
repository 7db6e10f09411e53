"""The one adapter between a parameter model and a form in the window."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Generic, TypeVar, get_origin

import numpy as np
from magicgui.widgets import create_widget
from magicgui.widgets.bases import ValueWidget
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from napari_fossiledit.errors import FossilError
from napari_fossiledit.widgets.common.fold import Fold

P = TypeVar("P", bound=BaseModel)
Choices = Callable[[], Sequence[str]]
Words = Mapping[Enum, str]

_UNITS = ("um", "px", "deg", "s")
# As far from the light page as from the dark one.
_ERROR_COLOUR = "#e0483e"
# Qt's spin boxes for whole numbers hold 32 bits.
_LARGEST = 2**31 - 1
# That count: the resolution of a file must come back as it was.
_DIGITS = 10


def label_of(name: str) -> str:
    """Turn a field's name into a label.

    Examples
    --------
    >>> label_of("slice_spacing_um")
    'Slice spacing (um)'
    """
    *words, last = name.split("_")
    if words and last in _UNITS:
        return f"{' '.join(words).capitalize()} ({last})"
    return " ".join([*words, last]).capitalize()


def bounds_of(field: FieldInfo) -> tuple[float | None, float | None]:
    """Return the lowest and highest value a field accepts, None where it is open.

    An exclusive bound of a whole number moves by one; of a real number it is left to validation.
    """
    bounds: dict[str, float] = {}
    for rule in field.metadata:
        for name in ("ge", "gt", "le", "lt"):
            if getattr(rule, name, None) is not None:
                bounds[name] = getattr(rule, name)
    step = 1 if field.annotation is int else 0
    low = bounds.get("ge", bounds["gt"] + step if "gt" in bounds else None)
    high = bounds.get("le", bounds["lt"] - step if "lt" in bounds else None)
    return low, high


def number_text(value: float) -> str:
    """Show a number with all its digits and no others.

    Examples
    --------
    >>> number_text(20.0), number_text(72.7), number_text(1e-5)
    ('20', '72.7', '0.00001')
    """
    return np.format_float_positional(float(f"{value:.{_DIGITS}g}"), trim="-")


def number_of(text: str) -> float | str:
    """Read a number with a decimal point or comma; return what is none as it is.

    Examples
    --------
    >>> number_of("0,05"), number_of(" 1 250.5 "), number_of("1.000,5")
    (0.05, 1250.5, '1.000,5')
    """
    try:
        return float("".join(text.split()).replace(",", "."))
    except ValueError:
        return text


def text_of(value: Any) -> str:
    """Return a value as a line of text, a tuple of words with commas; empty where there is none."""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return number_text(value)
    return "" if value is PydanticUndefined else str(value)


def words_of(text: str) -> tuple[str, ...]:
    """Read comma-separated text back into a tuple of words."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


class _CalmWheel(QObject):
    """Keeps the mouse wheel from changing a value that the user only scrolls past."""

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        if event is None or not isinstance(watched, QWidget):
            return False
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


class FieldRow(QWidget):
    """One field: its input and, below it, what is wrong with the value.

    Parameters
    ----------
    choices
        Returns values to offer in a combo box instead of free text; called again by `refresh`.
    words
        What a combo box shows of members of an enumeration, where it is not their value.
    """

    def __init__(
        self,
        name: str,
        field: FieldInfo,
        label: str,
        *,
        choices: Choices | None = None,
        words: Words | None = None,
    ) -> None:
        super().__init__()
        self.name, self.field, self.label, self._choices = name, field, label, choices
        self.input = _make_input(name, field, label, choices, words or {})
        self.native: QWidget = self.input.native
        self.text = QLabel(label)
        self.error = QLabel()
        self.error.setWordWrap(True)
        self.error.setStyleSheet(f"color: {_ERROR_COLOUR};")
        self.error.hide()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(1)
        column.addWidget(self.native)
        column.addWidget(self.error)
        self.native.setToolTip(field.description or "")
        self.native.setAccessibleName(label)
        # The words of an enumeration are as wide as they are: their row wraps instead.
        if choices is not None or not isinstance(self.native, QComboBox):
            self.native.setMinimumWidth(60)
        self._calm = _CalmWheel(self)
        if isinstance(self.native, QAbstractSpinBox | QComboBox):
            # Qt's default, WheelFocus, gives the focus to what the user only scrolls past.
            self.native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            self.native.installEventFilter(self._calm)
        if isinstance(self.native, QComboBox) and choices is not None:
            # The longest name of a model would make the dock as wide.
            self.native.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )

    @property
    def value(self) -> Any:
        """The value as the parameter model takes it."""
        value = self.input.value
        if get_origin(self.field.annotation) is tuple:
            return words_of(str(value))
        if self.field.annotation is float and isinstance(value, str):
            return number_of(value)
        return "" if value is None else value

    @value.setter
    def value(self, value: Any) -> None:
        if self._choices is not None and value not in _offered(self._choices, self.field):
            return
        is_line = isinstance(self.native, QLineEdit)
        self.input.value = text_of(value) if is_line else value

    def refresh(self) -> None:
        """Offer the choices of now, keeping the chosen one where it still exists."""
        if self._choices is not None:
            kept = self.input.value
            offered = _offered(self._choices, self.field)
            self.input.choices = _labelled(offered)  # type: ignore[attr-defined] # of the combo box
            if kept in offered:
                self.input.value = kept

    def complain(self, message: str) -> None:
        """Show what is wrong below the input; nothing where `message` is empty."""
        self.error.setText(message)
        self.error.setVisible(bool(message))


def _offered(choices: Choices, field: FieldInfo) -> list[str]:
    offered = list(choices())
    default = field.get_default()
    return offered if offered and default in ("", *offered) else [str(default), *offered]


def _labelled(offered: Iterable[str]) -> list[tuple[str, str]]:
    """Return what a combo box shows of each choice, and the choice."""
    return [(getattr(choice, "label", choice), str(choice)) for choice in offered]


def _make_input(
    name: str, field: FieldInfo, label: str, choices: Choices | None, words: Words
) -> ValueWidget[Any]:
    """Make the input that suits the type of a field; whatever has none of its own is text."""
    kind: Any = field.annotation
    value = field.get_default(call_default_factory=True)
    options: dict[str, Any] = {}
    if choices is not None:
        offered = _offered(choices, field)
        kind, value, options = str, offered[0], {"choices": _labelled(offered)}
    elif isinstance(kind, type) and issubclass(kind, Enum):
        options = {"choices": [(words.get(e, str(e.value).replace("_", " ")), e) for e in kind]}
    elif kind is int:
        low, high = bounds_of(field)
        low, high = (-_LARGEST if low is None else low), (_LARGEST if high is None else high)
        options = {"min": int(low), "max": int(high), "step": 1}
    elif kind is not bool:
        # Numbers, too: a spin box takes the comma for the decimal point or not by the system's
        # language, and is never empty.
        kind, value = str, text_of(value)
    made = create_widget(value=value, annotation=kind, name=name, label=label, options=options)
    if not isinstance(made, ValueWidget):
        raise TypeError(f"{name} has no input for {kind}")
    if isinstance(made.native, QCheckBox):
        # The label stands before the box, as before all other inputs; magicgui repeats it behind.
        made.native.setText("")
    if isinstance(made.native, QLineEdit):
        # What follows "e.g." or "empty:" in the description is shown while the field is empty.
        text = field.description or ""
        example = re.search(r"e\.g\. .*?(?=[:;] |$)", text) or re.search("empty: .*", text)
        made.native.setPlaceholderText(example[0].rstrip(".") if example else "")
    return made


class ParamsForm(QWidget, Generic[P]):
    """A form for a parameter model; the model alone validates the values.

    Parameters
    ----------
    model
        Parameter model; descriptions become tooltips, bounds and enumerations limit the inputs.
    advanced
        Fields that are folded away below the others.
    hidden
        Fields that are not shown and keep their default.
    choices
        For text fields: a function that returns what to offer in a combo box.
    labels
        Labels other than the field's own name.
    words
        See `FieldRow`.
    """

    changed = Signal()

    def __init__(
        self,
        model: type[P],
        *,
        advanced: Sequence[str] = (),
        hidden: Sequence[str] = (),
        choices: Mapping[str, Choices] | None = None,
        labels: Mapping[str, str] | None = None,
        words: Words | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.rows: dict[str, FieldRow] = {}
        self._fixed: dict[str, Any] = {}
        self._general = QLabel()
        self._general.setWordWrap(True)
        self._general.setStyleSheet(f"color: {_ERROR_COLOUR};")
        self._general.hide()
        self.advanced = Fold("More settings", QWidget())
        plain, folded = _form_layout(), _form_layout()
        for name, field in model.model_fields.items():
            if name in ("version", *hidden):
                continue
            label = (labels or {}).get(name) or field.title or label_of(name)
            row = FieldRow(name, field, label, choices=(choices or {}).get(name), words=words)
            row.input.changed.connect(self._on_changed)
            self.rows[name] = row
            row.text.setToolTip(row.native.toolTip())
            row.text.setBuddy(row.native)
            (folded if name in advanced else plain).addRow(row.text, row)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(plain)
        if folded.rowCount():
            folded.setContentsMargins(4, 0, 0, 0)
            self.advanced.content.setLayout(folded)
            column.addWidget(self.advanced)
        column.addWidget(self._general)

    def _on_changed(self) -> None:
        self.complain({})
        self.changed.emit()

    def fix(self, **values: Any) -> None:
        """Set fields that have no input, or override what an input says."""
        self._fixed.update(values)

    def values(self) -> dict[str, Any]:
        """Return the values of all inputs, not validated."""
        return {name: row.value for name, row in self.rows.items()} | self._fixed

    def fill(self, **values: Any) -> None:
        """Put values into the inputs."""
        for name, value in values.items():
            self.rows[name].value = value

    def show_row(self, name: str, shown: bool) -> None:
        """Show or hide a field with its label."""
        self.rows[name].setVisible(shown)
        self.rows[name].text.setVisible(shown)

    def refresh(self) -> None:
        """Offer the choices of now in all combo boxes."""
        for row in self.rows.values():
            row.refresh()

    def read(self) -> P:
        """Return the validated parameters.

        Raises
        ------
        FossilError
            Where a value does not fit; each field then shows what is wrong with it.
        """
        try:
            params = self.model.model_validate(self.values())
        except ValidationError as error:
            self.complain(messages_of(error))
            raise FossilError(
                "Some settings do not fit", advice="Below each field stands what it expects."
            ) from error
        self.complain({})
        return params

    def problem(self) -> str:
        """Return what is still missing or wrong, in a sentence; empty where `read` would work."""
        try:
            self.model.model_validate(self.values())
        except ValidationError as error:
            name, message = next(iter(messages_of(error).items()))
            row = self.rows.get(name)
            if row is None:
                return message
            return f"{row.label}: {message}" if row.value != "" else f"Enter: {row.label}."
        return ""

    def complain(self, messages: Mapping[str, str]) -> None:
        """Show messages at the fields they belong to, the rest below the form."""
        for name, row in self.rows.items():
            row.complain(messages.get(name, ""))
            if name in messages and self.advanced.isAncestorOf(row):
                self.advanced.open()
        rest = "\n".join(text for name, text in messages.items() if name not in self.rows)
        self._general.setText(rest)
        self._general.setVisible(bool(rest))


def messages_of(error: ValidationError) -> dict[str, str]:
    """Return messages of a failed validation by the field they belong to ("" where to none)."""
    messages: dict[str, str] = {}
    for item in error.errors():
        name = str(item["loc"][0]) if item["loc"] else ""
        is_number = item["type"] in ("float_parsing", "float_type", "missing")
        message = (
            "Enter a number, e.g. 12.5." if is_number else item["msg"].removeprefix("Value error, ")
        )
        messages.setdefault(name, message)
    return messages


def _form_layout() -> QFormLayout:
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    return layout
