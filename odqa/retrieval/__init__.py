"""Questions to passages: sparse (BM25), dense (FAISS), their merge, and the second stage.

Nothing is imported here, so that a sparse search never loads FAISS or a transformer.
"""
