"""What a browser finds in a page of HTML."""

from html.parser import HTMLParser

VOID = {"meta", "img", "wbr", "br"}


class Page(HTMLParser):
    """What a browser finds in a page; an end tag that does not close the last open element is an error."""

    def __init__(self, source: str):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.words.append((self.open[-1] if self.open else "", data))

    @property
    def text(self) -> str:
        return "".join(data for _, data in self.words)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_self_contained(page: Page) -> None:
    """No script, and nothing that a browser would fetch."""
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form", "a", "source", "video"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href", "action", "poster", "background"):
            assert attributes.get(name, "data:").startswith("data:image/") or name not in attributes
    assert "url(" not in page.text and "@import" not in page.text
