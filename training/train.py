"""What `accelerate launch training/train.py --flags` runs; `cytoimagenet train` does the same."""

from cytoimagenet_hf.pretraining.launch import main

if __name__ == "__main__":
    main()
