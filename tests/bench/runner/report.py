"""The results as a table for people and as JSON for programs."""
import json

from runner import stats


def _number(value, digits):
    return f"{value:,.{digits}f}".replace(",", " ")


def case_table(case, results, titles):
    """One line for each contender: the median of each figure, and its spread."""
    lines = [f"### {case.title} (`{case.name}`)", ""]
    heads = [f"{figure.title}, {figure.unit}" for figure in case.figures]
    lines.append("| | " + " | ".join(f"{head} | ±" for head in heads) + " | rounds |")
    lines.append("|---|" + "---:|---:|" * len(heads) + "---:|")
    for name, figures in results.items():
        cells, rounds = [], 0
        for figure in case.figures:
            values = figures[figure.key]
            rounds = len(values)
            spread = stats.spread(values)
            cells.append(_number(stats.median(values) * figure.scale, figure.digits))
            cells.append("" if spread is None else f"{spread * 100:.1f} %")
        lines.append(f"| {titles[name]} | " + " | ".join(cells) + f" | {rounds} |")
    return lines + [""]


def _wanted(verdict):
    words = []
    if verdict["least"] is not None:
        words.append(f"≥ {verdict['least']:g}")
    if verdict["most"] is not None:
        words.append(f"≤ {verdict['most']:g}")
    if verdict["aim"] is not None:
        words.append(f"aim {verdict['aim']:g}")
    if verdict["bound"] is not None:
        words.append(f"lower bound ≥ {verdict['bound']:g}")
    return ", ".join(words)


def _amount(value):
    return _number(value, 3 if value < 100 else 0)


def ratio_table(verdicts):
    """What was asked for, and whether it holds."""
    lines = ["### What it should be", "",
             "Medians of rounds side by side; in brackets the one-sided 95 % bounds.", "",
             "| case | | is | wanted | |", "|---|---|---:|---|---|"]
    for verdict in verdicts:
        holds = {None: "", True: "holds", False: "**does not hold**"}[verdict["holds"]]
        what = verdict["upper"] + (f" / {verdict['lower']}" if verdict["lower"] else "")
        is_now = f"{_amount(verdict['value'])} {verdict['unit']} ({_amount(verdict['low'])}–{_amount(verdict['high'])})"
        lines.append(f"| {verdict['case']} | {what} | {is_now} | {_wanted(verdict)} | {holds} |")
    return lines + [""]


def table(head, cases, results, titles, verdicts, notes):
    lines = ["## Sockst, measured", ""] + [f"- {key}: {value}" for key, value in head.items()] + [""]
    for case in cases:
        if results.get(case.name):
            lines += case_table(case, results[case.name], titles)
    if verdicts:
        lines += ratio_table(verdicts)
    if notes:
        lines += ["### Not measured", ""] + [f"- {note}" for note in notes] + [""]
    return "\n".join(lines)


def write_json(path, head, results, verdicts, notes):
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"about": head, "results": results, "ratios": verdicts, "notes": notes}, file,
                  indent=1, ensure_ascii=False)
        file.write("\n")
