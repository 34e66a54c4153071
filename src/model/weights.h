/* A model's weights in safetensors files with Hugging Face's names. */
#ifndef CST_MODEL_WEIGHTS_H
#define CST_MODEL_WEIGHTS_H

#include "model/model.h"

/* Fill M->w from DIR/model.safetensors, tensor by tensor (f32, f16, bf16 or f64 in the file). Every parameter
 * must be there, with its shape; names may lack the leading "model."; a stored copy of the tied head is left
 * aside. INPUT names file and tensor. UNSUPPORTED for folders that hold the weights in another form. */
cst_status cst_weights_load(cst_model *M, const char *dir);
/* Write `tensor[i]`, i in [0, params) (M->w or M->g) to one file under the parameters' names, and, where
 * scalar_name is not NULL, one more f32 scalar. Atomic: the old file stays until the new one is complete. */
cst_status cst_weights_save(cst_model *M, cst_tensor *const *tensor, const char *path, const char *scalar_name, float scalar);
/* Config and weights as a folder that transformers loads. */
cst_status cst_model_save(cst_model *M, const char *dir);

#endif
