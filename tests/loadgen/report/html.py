"""Reads an HTML page for tests."""

from html.parser import HTMLParser


class Seen(HTMLParser):
    """Elements, addresses and texts of a page. prose: the text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.prose = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href") or name.startswith("on")
        ]

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags[-1:] != ["script"]:
            self.prose += data
