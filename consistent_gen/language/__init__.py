"""Language in general: words, sentence embedders, language models and the endpoints they ask."""
