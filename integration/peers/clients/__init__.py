"""Client libraries as people have them, behind one interface (`client`): TF Serving's and Triton's, gRPC and REST."""
