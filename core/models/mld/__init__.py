"""The published motion latent diffusion networks: denoiser, VAE and the SPM reward, key for key."""
