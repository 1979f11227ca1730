"""A report as one self-contained page: answers first, then charts with the table behind each.

No script, no remote asset; light and dark, print and phone.
"""

from reports.definitions import QUESTION_COVERAGE, UNIT_NOTES, UNIT_TITLES
from reports.figures import Report
from reports.headlines import headlines
from reports.layout import Section, environment, sections


def render(report: Report) -> str:
    """The page. Raises `NoCharts` where the extra is not installed."""
    questions: dict[str, list[Section]] = {}
    for section in sections(report):
        questions.setdefault(section.question, []).append(section)
    page: str = (
        environment()
        .get_template("report.html.j2")
        .render(
            scan=report.scan,
            trust=report.trust,
            sample=report.sample,
            headlines=headlines(report),
            # Coverage is what one looks up, not what one came for: last.
            questions=sorted(questions.items(), key=lambda item: item[0] == QUESTION_COVERAGE),
            titles=UNIT_TITLES,
            notes=[(unit, UNIT_NOTES[unit]) for unit in dict.fromkeys(figure.unit for figure in report.figures)],
        )
    )
    return page
