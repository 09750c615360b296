#!/bin/bash
# trains a style
cd /opt/sd-scripts
accelerate launch --num_cpu_threads_per_process 8 sdxl_train_network.py \
  --pretrained_model_name_or_path="/models/ponyDiffusionV6XL.safetensors" \
  --train_data_dir /data/style --resolution 1024,1024 --enable_bucket \
  --network_module networks.lora --network_dim 32 --network_alpha 13 --scale_weight_norms 2.5 \
  --network_args "conv_dim=8" "conv_alpha=4" \
  --optimizer_type AdamW8bit --learning_rate 1e-4 --lr_scheduler cosine --lr_warmup_steps 100 \
  --max_train_steps 3000 --train_batch_size 8 --mixed_precision bf16 --save_every_n_steps 500 \
  --network_train_unet_only --cache_text_encoder_outputs --gradient_checkpointing --sdpa \
  --output_name "pony style" --seed 42 --log_with tensorboard
