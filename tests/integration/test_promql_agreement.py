"""What is PromQL: promtool (2.42) and the parser agree, but for what is listed here with its reason."""

import json
import re
import subprocess
from pathlib import Path

from rules.promql import ExpressionError, parse

EXPRESSIONS = r"""
a
a{}
{}
{__name__="a"}
{__name__=~"a.*"}
{__name__=~".*"}
{a=""}
{a!=""}
{a!="b"}
{a=~".+"}
{a=~".*"}
{a!~".+"}
{a!~""}
a{b="c",}
a{,}
a{b="c",,}
a{b="c" d="e"}
a{__name__="b"}
a{b='c'}
a{b=`c\d`}
a{b=~`\d+\.`}
a{b=~"\\d"}
a{b="\d"}
a{b="\x41\101\u00e9\U0001F600\n\t\\\""}
a{b="\'"}
a{b='\''}
a{b='\"'}
a{b="\400"}
a{b="\ud800"}
a{b=c}
a{b="c"
a{b=="c"}
a{1b="c"}
a{on="c",by="d",sum="e",offset="f",bool="g",inf="h"}
a{b:c="d"}
a{b=~"("}
a{b!~"("}
a{b=~"x(?i)y"}
a{b=~"(?=x)"}
a{b=~"\\C"}
a{b=~"[[:alpha:]]\\pL\\z"}
a{b=~"\\Qa.b\\E"}
a{b=~"a{1000}"}
a{b=~"a{1001}"}
a{b=~"x**"}
a{b=~"(?P<n>x)"}
a{b=~"{{x"}
a:b:c
:a
a.b
é
1
-1
+1
--1
1e3
1E-3
1e
.5
5.
.
1.2.3
0x1F
0x1g
017
08
0b11
Inf
-inf
NaN
nan
infinity
1 + 1
1 > 2
1 > bool 2
1 and 2
a + "x"
a + b
a+b
a - -b
a * / b
a % b ^ c
a atan2 b
a ATAN2 b
1 atan2 2
a > bool b
a > BOOL b
a + bool b
a and bool b
bool a
a and b or c unless d
a and 1
1 or a
a = b
a =~ b
a == b
a === b
a > > b
a >
> a
a b
(a
a)
(a))
()
(a, b)
((a))
a > on(x) b
a > on (x, y,) b
a > on(x,,y) b
a > on() b
a > on b
a > on(x) ignoring(y) b
a > ignoring(x) group_left b
a > ignoring(x) group_left() b
a > on(x) group_left(y) b
a > on(x) group_right(y, z) b
a > on(x) group_left(x) b
a > group_left b
a and on(x) group_left b
a or ignoring(x) b
1 + on(x) a
a + on(x) 1
a > bool on(x) group_left b
a > on(x) bool b
a > on(1x) b
-a
-a ^ 2
+a
-"x"
!a
rate(a[5m])
rate(a)
rate(a[5m:1m])
rate(a[5m:])
rate(a[:1m])
rate(a[])
rate(a[0s])
rate(a[5m:0s])
rate(a[-5m])
rate(a[1h30m])
rate(a[30m1h])
rate(a[1h1h])
rate(a[1y2w3d4h5m6s7ms])
rate(a[1.5h])
rate(a[5 m])
rate(a[5m]) offset 1m
rate(a[5m] offset 1m)
rate(a[5m] offset -1m)
rate(a offset 1m [5m])
rate((a[5m]))
rate(a[5m][5m])
rate(sum(a)[5m])
rate(sum(a)[5m:])
max_over_time(rate(a[5m])[1h:1m] offset 1d @ end())
time()[5m:]
1[5m:]
a offset 5m
a OFFSET 5m
a offset
a offset 5m offset 5m
offset
a offset offset
a @ 5
a @ -5
a @ +5.5
a @ 5 @ 6
a @ start()
a @ end() offset 5m
a offset 5m @ end()
a @ start
a @ now()
a @ 1e20
a @ Inf
a @ NaN
sum(a) @ 5
(a) @ 5
sum
sum(a)
SUM(a)
sum(a) by (x)
sum by (x) (a)
sum by (x, y,) (a)
sum by () (a)
sum without (x) (a)
sum by (x) (a) by (y)
sum by x (a)
sum by (1x) (a)
sum by (x:y) (a)
sum by (on) (a)
sum by (__name__) (a)
sum(a, b)
sum()
sum(1)
sum(a[5m])
sum(a,)
topk(3, a)
topk(a)
topk("x", a)
topk by (x) (3, a)
bottomk(3, a) without (x)
quantile(0.5, a)
quantile(scalar(b), a)
count_values("x", a)
count_values(3, a)
stddev(a) / stdvar(a) + group(a) - count(a) * min(a) % max(a) ^ avg(a)
abs(a)
abs(1)
abs(a, b)
abs()
abs
Abs(a)
abs(a,)
round(a)
round(a, 2)
round(a, b)
round(a, 1, 2)
clamp(a, 1, 2)
clamp(a, 1)
clamp_min(a, 1) + clamp_max(a, 1)
hour()
hour(a)
hour(1)
hour(a, b)
days_in_month() + day_of_year() + day_of_month() + day_of_week() + minute() + month() + year()
time()
time(a)
pi()
vector(1)
vector(a)
vector(time())
scalar(a)
scalar(1)
timestamp(a)
absent(a)
absent(1)
absent_over_time(a[5m])
sort(a) + sort_desc(a)
label_replace(a, "b", "$1", "c", "(.*)")
label_replace(a, "b", "$1", "c")
label_replace(a, b, "$1", "c", "(.*)")
label_join(a, "b", ",", "c", "d")
label_join(a, "b", ",")
label_join(a, "b")
histogram_quantile(0.9, a)
histogram_quantile(a, 0.9)
histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m])))
quantile_over_time(0.5, a[5m])
quantile_over_time(a[5m], 0.5)
predict_linear(a[5m], 3600)
predict_linear(a[5m])
holt_winters(a[5m], 0.5, 0.5)
deriv(a[5m]) + delta(a[5m]) + idelta(a[5m]) + irate(a[5m]) + increase(a[5m]) + changes(a[5m]) + resets(a[5m])
sum_over_time(a[5m]) + avg_over_time(a[5m]) + min_over_time(a[5m]) + max_over_time(a[5m]) + count_over_time(a[5m])
stddev_over_time(a[5m]) + stdvar_over_time(a[5m]) + last_over_time(a[5m]) + present_over_time(a[5m])
sqrt(a) + exp(a) + ln(a) + log2(a) + log10(a) + sgn(a) + ceil(a) + floor(a)
acos(a) + acosh(a) + asin(a) + asinh(a) + atan(a) + atanh(a) + cos(a) + cosh(a) + deg(a) + rad(a) + sin(a) + sinh(a)
tan(a) + tanh(a)
foo(a)
a # comment (
# comment
a + # ) comment \n b
a;b
a $ b
"a
a{b="x
scalar(a) > 1
scalar(a) > bool 1
time() == 3
1_
a{"b"}
info(a)
limitk(1, a)
limit_ratio(0.5, a)
sum_over_time(a[5m + 1m])
rate(a[5m] anchored)
a{b="c" or d="e"}
a + fill(0) b
sum by (inf) (a)
sum by (nan) (a)
bool
on
by
start
end
start()
a[5m:1m
{
}
[5m]
a[5m
@ 5
a @
a @ -
a[5m]]
a{b}
{b}
group_left
a + group_left
a == bool == b
a{b=~"c"} > 3 and
"
'
sum by (
sum by (a
a[
a[5m:
a{b=
a > on
a > on (
a > on (b) group_left (
1e400
rate(a[300y])
a offset 300y
a{b="☃"}
a{☃="b"}
	a	>	3
a > 3 # é ☃
step
step > 3
a > step
a{step="x", b="c"}
sum by (step) (a)
range
range > 3
a > range
a{range="x", b="c"}
sum by (range) (a)
start > 3
a > start
a{start="x", b="c"}
sum by (start) (a)
info
info > 3
a > info
a{info="x", b="c"}
sum by (info) (a)
limitk
limitk > 3
a > limitk
a{limitk="x", b="c"}
sum by (limitk) (a)
min
min > 3
a > min
a{min="x", b="c"}
sum by (min) (a)
on > 3
a{on="x", b="c"}
bool > 3
a > bool
a{bool="x", b="c"}
sum by (bool) (a)
atan2
atan2 > 3
a > atan2
a{atan2="x", b="c"}
sum by (atan2) (a)
group_left > 3
a > group_left
a{group_left="x", b="c"}
sum by (group_left) (a)
end > 3
a > end
a{end="x", b="c"}
sum by (end) (a)
stdvar
stdvar > 3
a > stdvar
a{stdvar="x", b="c"}
sum by (stdvar) (a)
by > 3
a > by
a{by="x", b="c"}
sum by (by) (a)
ignoring
ignoring > 3
a > ignoring
a{ignoring="x", b="c"}
sum by (ignoring) (a)
offset > 3
a > offset
a{offset="x", b="c"}
sum by (offset) (a)
and
and > 3
a > and
a{and="x", b="c"}
sum by (and) (a)
or
or > 3
a > or
a{or="x", b="c"}
sum by (or) (a)
without
without > 3
a > without
a{without="x", b="c"}
sum by (without) (a)
sum > 3
a > sum
a{sum="x", b="c"}
sum by (sum) (a)
count_values
count_values > 3
a > count_values
a{count_values="x", b="c"}
sum by (count_values) (a)
""".strip("\n").split("\n")

NEWER = [
    'a > on("x") b',
    "rate(a[5])",
    "a offset 0s",
    "a offset 5",
    'sum by ("x") (a)',
    "1_000",
    "0x_1F",
    "rate(a[5_0])",
    "5m",
    "a > 1h30m",
    '{"a"}',
    '{"a.b", "c.d"="e"}',
    "double_exponential_smoothing(a[5m], 0.5, 0.5)",
    "mad_over_time(a[5m])",
    "first_over_time(a[5m]) + ts_of_max_over_time(a[5m])",
    'sort_by_label(a, "b")',
]
"""Taken since Prometheus 3 (names in quotes, numbers as durations and the other way round, newer functions)."""
OURS = ["age(a)"]
NOT_OURS = {
    '"text"': "a rule and a query for a chart need numbers: upstream refuses it when it is evaluated",
    "'text'": "as above",
    "`a`": "as above",
    "a[5m]": "as above",
    "a[5m] offset 1m": "as above",
    'label_replace(a, "b", "$1", "c", "(")': "wrong whatever the data: upstream says so when it is evaluated",
    'label_replace(a, "1x", "$1", "c", "(.*)")': "as above",
    'label_join(a, "b-c", ",", "d")': "as above",
    'count_values("1x", a)': "as above",
    'a{b="\\xff"}': "labels are text, so that none has this value",
    "anchored": 'a keyword of the parser: written {"anchored"}',
    "sum by (smoothed) (a)": 'as above: written by ("smoothed")',
    "a @ 9e9": "times are counted in int64 ns",
    "histogram_count(a)": "readings are numbers, not native histograms",
    "histogram_fraction(0, 1, a)": "as above",
}
"""Taken by promtool and refused here, and why."""


def refused_by_promtool(promtool: Path, expressions: list[str], directory: Path) -> list[str]:
    rules = [f"  - record: r{i}\n    expr: {json.dumps(text)}" for i, text in enumerate(expressions)]
    file = directory / "rules.yml"
    file.write_text("\n".join(["groups:", "- name: g", "  rules:", *rules]))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    numbers = {int(n) for n in re.findall(r', "r(\d+)": could not parse', done.stderr)}
    return [text for i, text in enumerate(expressions) if i in numbers]


def refused(expressions: list[str]) -> list[str]:
    def is_refused(text: str) -> bool:
        try:
            parse(text)
        except ExpressionError:
            return True
        return False

    return [text for text in expressions if is_refused(text)]


def test_promtool_and_we_take_the_same_expressions(promtool: Path, tmp_path: Path) -> None:
    by_promtool = refused_by_promtool(promtool, EXPRESSIONS, tmp_path)

    assert refused(EXPRESSIONS) == by_promtool
    assert 100 < len(by_promtool) < len(EXPRESSIONS) - 100


def test_where_we_differ_from_promtool_it_is_as_listed(promtool: Path, tmp_path: Path) -> None:
    newer, not_ours = [*NEWER, *OURS], list(NOT_OURS)

    assert refused_by_promtool(promtool, [*newer, *not_ours], tmp_path) == newer
    assert refused([*newer, *not_ours]) == not_ours
