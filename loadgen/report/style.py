"""The page's style sheet. System fonts; nothing is fetched."""

from typing import Final

from loadgen.report.frame import FONT, GRID, INK, MUTED, SHADE

STYLE: Final = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f6f8fa; color: {INK}; font: 14px/1.5 {FONT}; }}
main {{ max-width: 1240px; margin: 0 auto; padding: 24px 20px 60px; }}
h1 {{ font-size: 24px; margin: 0; overflow-wrap: anywhere; }}
h2 {{ font-size: 17px; margin: 36px 0 12px; }}
h3 {{ font-size: 14px; margin: 0 0 2px; overflow-wrap: anywhere; }}
p {{ margin: 4px 0; overflow-wrap: anywhere; }}
.under, .caption, .what {{ color: {MUTED}; }}
.caption {{ font-size: 12px; min-height: 18px; }}
.banner {{ border-radius: 8px; padding: 10px 16px; margin: 14px 0 0; border: 1px solid; }}
.banner ul {{ margin: 4px 0 0; padding-left: 20px; overflow-wrap: anywhere; }}
.bad {{ background: #fdecec; border-color: #e3a0a0; color: #7d1a1a; }}
.warn {{ background: #fff5e0; border-color: #e3c27a; color: #6b4a05; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 12px; margin-top: 18px; }}
.card, .chart, .box {{ background: #fff; border: 1px solid {GRID}; border-radius: 8px; padding: 12px 14px; }}
.card, .chart {{ min-width: 0; }}
.card b {{ display: block; font-size: 22px; line-height: 1.3; font-weight: 600; }}
.card b small {{ font-size: 13px; font-weight: 400; color: {MUTED}; }}
.card .name {{ font-size: 12px; font-weight: 600; color: {MUTED}; }}
.card .more {{ font-size: 12px; color: {MUTED}; }}
.charts {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 14px; }}
.wide {{ grid-column: 1 / -1; }}
.box {{ margin-top: 14px; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }}
th, td {{ text-align: right; padding: 4px 10px; border-bottom: 1px solid {SHADE}; white-space: nowrap; }}
thead th {{ color: {MUTED}; font-weight: 600; font-size: 12px; }}
tbody th {{ font-weight: 500; }}
th:first-child {{ text-align: left; padding-left: 0; }}
.text td {{ text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 120px; }}
.text thead th {{ text-align: left; }}
.text th:first-child {{ width: 1%; padding-right: 24px; }}
tr:last-child > * {{ border-bottom: 0; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 0; }}
dt {{ font-weight: 600; }}
dd {{ margin: 0; color: {MUTED}; }}
@media (max-width: 860px) {{ .charts, dl {{ grid-template-columns: minmax(0, 1fr); }} }}
@media print {{ body {{ background: #fff; }} .card, .chart, .box {{ break-inside: avoid; }} }}
"""
