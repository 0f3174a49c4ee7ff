"""A gallery on Milvus, for one that outgrows a machine."""

from visavis.face.gallery.milvus.address import Address, is_address
from visavis.face.gallery.milvus.gallery import MilvusGallery

__all__ = ["Address", "MilvusGallery", "is_address"]
