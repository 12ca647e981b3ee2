"""What a model may write to break a page: tags, scripts, templates, half characters, marks of direction, a megabyte."""

HOSTILE = [
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '"><svg onload=document.title="owned">',
    "<!-- <script>",
    "javascript:document.title='owned'",
    "{{constructor.constructor('document.title=1')()}}",
    "half a pair \ud800 and \udfff, \u2028 \u2029 \x00 \x07 \ufeff, and \u202eright to left",
    "é" * 1_000_000,
]
