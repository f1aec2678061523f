"""The storytelling studio in the browser (Gradio). It talks to the server through `ui.client` only.

`ui.app.build` makes the page, `ui.app.mount` puts it into a FastAPI app.
"""
