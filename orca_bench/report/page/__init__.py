"""The parts of the page: its heading, tables, questions and foot as HTML, and the style sheets and scripts that go into it.

html_page.py puts them together. The scripts and style sheets are several files, joined in the order of `page_files.py`.
"""
