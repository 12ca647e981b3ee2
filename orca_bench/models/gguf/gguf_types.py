"""The types of weights that GGUF files and imported folders can have, and of llama.cpp's cached keys and values, by name.

Its own module because the command line lists them, and it must be light.
"""

#: The types that can be written, by the name that a user types, and llama.cpp's number of a file that is mostly of it; from
#: more bits to fewer, by the number in the name. Those whose matrices have types of their own are in gguf_type_choice.py.
FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"} | {
    name: f"MOSTLY_{name.upper()}"
    for name in (
        *("q8_0", "q6_k", "q5_1", "q5_k_m", "q5_0", "q5_k_s", "q4_1", "q4_k_m", "q4_0", "q4_k_s", "iq4_nl", "iq4_xs"),
        *("q3_k_l", "q3_k_m", "q3_k_s", "q2_k"),
    )
}
#: The types of tensors, as `gguf` names them, that an importance matrix does not change.
INDIFFERENT_TENSOR_TYPES = ("F32", "F16", "BF16", "Q8_0")
#: The types of files that an importance matrix changes.
IMPORTANCE_TYPES = tuple(name for name in FILE_TYPES if name.upper() not in INDIFFERENT_TENSOR_TYPES)
#: The dtypes of an imported folder; `auto` is the smallest that holds the file's weights exactly.
FOLDER_DTYPES = ("auto", "float32", "bfloat16", "float16")
#: The types that llama.cpp's cached keys and values may have here; f16 is its default.
KV_CACHE_TYPES = ("f16", "f32", "bf16", "q8_0", "q4_0")
