"""A seed comes in, the text of a tfvars file goes out: one that Terraform reads, or one with a few pieces spoilt."""

from __future__ import annotations

from random import Random

NAMES = ["a", "b_1", "c-d", "if", "in", "for", "null", "true", "é", "ñandú", "क्ष", "_x", "a1"]
NUMBERS = ["0", "1", "12", "007", "1.5", "2e3", "1E+2", "1.25e-3", "99999999999999999999", "1e999999"]
TEXTS = ["", "x", "a b", "é日", "$", "%", "$$", "$${a}", "%%{b}", "#", "//", "/*", "{", "}", "'", "$${", "E"]
ESCAPES = ["\\n", "\\r", "\\t", '\\"', "\\\\", "\\u00e9", "\\U0001f600"]
OPERATORS = ["+", "-", "*", "/", "%", "==", "!=", "<", ">", "<=", ">=", "&&", "||"]
BLANKS = ["", "", " ", " ", "  ", "\t", " /* c */ ", "/**/"]
LINE_ENDS = ["\n", "\n", "\n", "\r\n", "\n\n", " # c\n", ' // "c\n', "\n  "]
MARKERS = ["E", "EOT", "A-B", "É"]
MARKER_BLANKS = ["", "", "  ", "\t", "\r", "\u00a0", "\u2003", "\u3000", "\x0b", "\x0c", "\x85", "\u2028"]
# What a mistake puts into a file.
PIECES = [
    "{", "}", "[", "]", "(", ")", '"', "=", ":", ",", ".", "...", "?", "!", "-", "+", "*", "~", "=>", "==", "&", "|",
    "\n", "\r", "\r\n", "\t", " ", "\u00a0", "\u2028", "\ufeff", "\x00", "\x0c", "\x1c", "#", "//", "/*", "*/", "<<E\n",
    "<<-E\n", "\nE\n", "\n\u00a0E\n", "${", "%{", "$${", "%%{", "\\", "\\q", "\\u12", "'", "`", "@", ";", "$", "%",
    "a", "é", "for", "in", "if", "else", "null", "true", "var.x", "f(1)", "1", "-1", "1.", ".5", "1e", "1.2.3", "0x1",
    "1e9999999999999", "[*]", ".*", ".a", "[0]", "::", "_", "²", "٣", "\udce9", "%{ endif }", "%{ if true }", "${1}",
]  # fmt: skip


class Files:
    """Everything that is drawn for one file comes from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def file(self) -> str:
        items = [*(self.argument(f"v{number}") for number in range(self.random.randint(0, 3))), self.block()]
        self.random.shuffle(items)
        text = "".join(items)
        return self.spoil(text) if self.random.random() < 0.5 else text

    def spoil(self, text: str) -> str:
        for _ in range(self.random.randint(1, 3)):
            start = self.random.randint(0, len(text))
            end = min(len(text), start + self.random.choice([0, 0, 1, 1, 2, 8]))
            text = text[:start] + self.random.choice([*PIECES, ""]) + text[end:]
        return text

    def argument(self, name: str) -> str:
        name = self.random.choice([name, name, f"é{name}"])
        return f"{self.blank()}{name}{self.blank()}={self.blank()}{self.value(3)}{self.blank()}{self.line_end()}"

    def block(self) -> str:
        entries = [
            (key, self.object_of([("database_name", f'"d{number}"'), ("username", f'"u{number}"')]))
            for number, key in enumerate(self.random.sample(["a", "b-c", '"d"', '("e")', "7", "f"], 2))
        ]
        return f"application_databases{self.blank()}={self.blank()}{self.object_of(entries)}{self.line_end()}"

    def object_of(self, pairs: list[tuple[str, str]]) -> str:
        self.random.shuffle(pairs)
        one_line = self.random.random() < 0.3
        text = "{" + self.blank()
        for number, (key, value) in enumerate(pairs):
            comma = "," if one_line and number < len(pairs) - 1 else self.random.choice(["", ","])
            end = self.blank() if one_line else self.line_end()
            text += f"{key}{self.blank()}{self.random.choice('=:')}{self.blank()}{value}{self.blank()}{comma}{end}"
        return text + "}"

    def value(self, depth: int) -> str:
        draw = self.random.random()
        if depth == 0 or draw < 0.3:
            return self.random.choice([self.number, self.string, self.word])()
        kinds = [self.list, self.object, self.operation, self.condition, self.parenthesis, self.template]
        kinds += [self.heredoc, self.index, self.loop, self.splat, self.negative, self.directive]
        return self.random.choice(kinds)(depth - 1)

    def number(self) -> str:
        return self.random.choice(["", "", "-", "- ", "--"]) + self.random.choice(NUMBERS)

    def word(self) -> str:
        return self.random.choice(["true", "false", "null"])

    def string(self) -> str:
        return '"' + "".join(self.random.choice([*TEXTS, *ESCAPES]) for _ in range(self.random.randint(0, 3))) + ' "'

    def negative(self, depth: int) -> str:
        return self.random.choice(["!true", "!!false", f"-({self.random.choice(NUMBERS)})", f"1 -{self.value(depth)}"])

    def list(self, depth: int) -> str:
        items = [self.value(depth) for _ in range(self.random.randint(0, 3))]
        breaks = self.random.choice(["", " ", "\n", "\r\n"])
        return (
            f"[{breaks}"
            + f"{breaks},{breaks}".join(items)
            + self.random.choice(["", ","] if items else [""])
            + breaks
            + "]"
        )

    def object(self, depth: int) -> str:
        keys = self.random.sample([*NAMES, '"k"', "(1)", "2", "-3", '"${1}"'], self.random.randint(0, 3))
        return self.object_of([(key, self.value(depth)) for key in keys if key != "for"])

    def operation(self, depth: int) -> str:
        numbers = [self.random.choice(NUMBERS) for _ in range(2)]
        blank = self.random.choice(["", " "])
        return f"{numbers[0]}{blank}{self.random.choice(OPERATORS)}{blank}{numbers[1] if depth else 3}"

    def condition(self, depth: int) -> str:
        value, test = self.value(depth), self.random.choice(["true", "1 < 2", "!false"])
        return f"{test}{self.blank()}?{self.blank()}{value}:{self.blank()}{value}"

    def parenthesis(self, depth: int) -> str:
        breaks = self.random.choice(["", "\n"])
        return f"({breaks}{self.value(depth)}{breaks})"

    def template(self, depth: int) -> str:
        inner = self.random.choice(["1", '"x"', "true", f"[{self.value(depth)}] == []", "1\n"])
        return f'"a${{{self.random.choice(["", "~ "])}{inner}{self.random.choice(["", " ~"])}}}b"'

    def directive(self, depth: int) -> str:
        texts = ["%{ if true }x%{ else }y%{ endif }", "%{~ if -1 < 2 ~}x%{ endif ~}"]
        texts += ["%{ for x in [1, -2] }${x}%{ endfor }", "%{ for k, x in { a = 1 } }${k}%{ endfor }"]
        text = self.random.choice(texts)
        return f'"{text}"' if depth % 2 else f"<<E\n{text}\nE\n"

    def heredoc(self, _depth: int) -> str:
        marker = self.random.choice(MARKERS)
        lines = [
            self.random.choice([*TEXTS, "${1}", f" {marker}x", f"{marker} {marker}", '"', "${ <<F\nf\nF\n}"])
            for _ in range(self.random.randint(0, 3))
        ]
        blanks = [self.random.choice(MARKER_BLANKS) for _ in range(2)]
        body = "".join(f"{line}\n" for line in lines)
        return f"<<{self.random.choice(['', '-'])}{marker}\n{body}{blanks[0]}{marker}{blanks[1]}\n"

    def index(self, depth: int) -> str:
        value = self.value(depth)
        return self.random.choice([f"[{value}][0]", f"[{value}].0", f"{{ a = {value} }}.a", f'{{ a = {value} }}["a"]'])

    def splat(self, depth: int) -> str:
        return f"[{{ a = {self.value(depth)} }}]{self.random.choice(['[*].a', '.*.a', '[*]'])}"

    def loop(self, depth: int) -> str:
        value = self.value(depth)
        loops = ["[for x in [1, 2] : x]", "[for x in [-1] : x if -x > 0]", "{ for k, x in { a = 1 } : k => x }"]
        loops += [f"[for x in [1] : {value}]", f"[\nfor x in [{value}] :\nx\n]", "{\nfor x in [1] :\nx => 1...\n}"]
        return self.random.choice(loops)

    def blank(self) -> str:
        return self.random.choice(BLANKS)

    def line_end(self) -> str:
        return self.random.choice(LINE_ENDS)
