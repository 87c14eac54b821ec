"""The ModelDeployment custom resource: types, conditions and the CustomResourceDefinition made of them."""
