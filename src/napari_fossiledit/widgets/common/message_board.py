"""The latest message, what can be done about it, and all messages of the session."""

from __future__ import annotations

from html import escape

from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QTextCursor
from qtpy.QtWidgets import (
    QDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QTextBrowser,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from napari_fossiledit.log import log_file, read_log
from napari_fossiledit.widgets.common.notices import VOICE, Message, errors_shown

#: Long enough to read two sentences and to press Undo.
_SHOWN_MS = 20_000


class MessageBoard(QFrame):
    """Shows the latest message below the page, where it hides neither slice nor scale bar."""

    def __init__(self) -> None:
        super().__init__()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.action = QPushButton()
        self.action.clicked.connect(self._act)
        self.log = QPushButton("Show log")
        self.log.setToolTip("Show what the program did before the error.")
        self.log.clicked.connect(self.show_log)
        self.all = QPushButton("Show messages")
        self.all.setToolTip("Show everything that was said since the program started.")
        self.all.clicked.connect(self.show_messages)
        row = QHBoxLayout()
        row.addWidget(self.action)
        row.addStretch(1)
        row.addWidget(self.log)
        row.addWidget(self.all)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 4, 6, 4)
        column.addWidget(self.text)
        column.addLayout(row)
        self._message: Message | None = None
        self._fading = QTimer(self)
        self._fading.setSingleShot(True)
        self._fading.setInterval(_SHOWN_MS)
        self._fading.timeout.connect(self.clear)
        VOICE.said.connect(self.show_message)
        self.clear()

    def show_message(self, message: Message) -> None:
        """Show a message until the next one; an error stays, anything else fades."""
        if not self.isVisible():
            return
        message.is_shown = True
        self._message = message
        self.text.setText(f"⚠ {message.text}" if message.is_error else message.text)
        self.text.show()
        self.action.setText(message.action[0] if message.action else "")
        self.action.setVisible(message.action is not None)
        self.log.setVisible(message.is_error)
        self._fading.stop()
        if not message.is_error:
            self._fading.start()

    def clear(self) -> None:
        """Show no message, only the way to the earlier ones."""
        self._message = None
        for widget in (self.text, self.action, self.log):
            widget.hide()

    def _act(self) -> None:
        message = self._message
        self.clear()
        if message is not None and message.action is not None:
            with errors_shown():
                message.action[1]()

    def show_messages(self) -> QDialog:
        """Open a window with all messages of the session."""
        text = QTextBrowser()
        rows = (
            f"<p><b>{message.time:%H:%M:%S}</b> {'⚠ ' if message.is_error else ''}"
            f"{escape(message.text).replace(chr(10), '<br>')}</p>"
            for message in VOICE.messages
        )
        text.setHtml("".join(rows) or "Nothing was said yet.")
        text.moveCursor(QTextCursor.MoveOperation.End)
        dialog = show_in_window(self, "Messages", text)
        log = QPushButton("Show log")
        log.clicked.connect(self.show_log)
        layout = dialog.layout()
        if layout is not None:
            layout.addWidget(log)
        return dialog

    def show_log(self) -> QDialog:
        """Open a window with the end of the log file."""
        text = QPlainTextEdit(read_log())
        text.setReadOnly(True)
        text.moveCursor(QTextCursor.MoveOperation.End)
        return show_in_window(self, f"Log: {log_file()}", text)


def show_in_window(parent: QWidget, title: str, text: QTextEdit | QPlainTextEdit) -> QDialog:
    """Open a window with a text to read; the user closes it."""
    dialog = QDialog(parent)
    dialog.setWindowTitle(title)
    QVBoxLayout(dialog).addWidget(text)
    dialog.resize(900, 600)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.show()
    return dialog
