"""`python -m keras_ssl.cli` is `keras-ssl`."""

from keras_ssl.cli import main

if __name__ == "__main__":
    main()
